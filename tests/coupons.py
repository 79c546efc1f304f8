"""Coupons and commands to test with."""

from typing import Any

from coupon.domain.model import ChangeCoupon, Coupon, CreateCoupons, Day, Kind, create

NOW = 1_795_000_000_000
TODAY = Day("2026-11-18")


def a_creation(**changes: Any) -> CreateCoupons:
    fields = {
        "operation": "birth",
        "amount": 1,
        "first": 0,
        "size": 1,
        "codes": (),
        "secret_fingerprint": "",
        "valid_from": Day("2026-11-01"),
        "expire_at": Day("2026-11-30"),
        "accepted_at": NOW,
        "actor": "marketing",
    }
    return CreateCoupons(**fields | changes)


def a_coupon(code: str = "A" * 19, **changes: Any) -> Coupon:
    return create(a_creation(), code)._replace(**changes)


def a_command(kind: Kind, operation: str, previous: str = "birth", version: int = 1, **changes: Any) -> ChangeCoupon:
    fields = {
        "kind": kind,
        "operation": operation,
        "code": "A" * 19,
        "previous": previous,
        "previous_version": version,
        "accepted_at": NOW + 1,
        "day": TODAY,
        "user_id": "ann" if kind is Kind.ISSUE else None,
        "actor": "shop",
        "reserved": True,
        "number": version + 1,
        "previous_number": version,
    }
    return ChangeCoupon(**fields | changes)
