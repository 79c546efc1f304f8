"""Coupons to test backends with."""

import secrets

from coupon.domain.codes import CodeDeriver
from coupon.domain.model import (
    HISTORY_MAX,
    REJECTIONS_MAX,
    Coupon,
    CreateCoupons,
    Day,
    HistoryEntry,
    Kind,
    Reason,
    Rejection,
    create,
)

NOW = 1_795_000_000_123
_CODE_DERIVER = CodeDeriver("of the contract suites")


def some_coupons(number: int) -> list[Coupon]:
    """New coupons with codes that nobody has."""
    operation = _an_operation()
    creation = CreateCoupons(
        operation=operation,
        amount=number,
        first=0,
        size=number,
        codes=(),
        secret_fingerprint=_CODE_DERIVER.fingerprint,
        valid_from=Day("2026-11-01"),
        expire_at=Day("2026-11-30"),
        accepted_at=NOW,
        actor="marketing",
    )
    return [create(creation, code) for code in _CODE_DERIVER.codes(operation, 0, number)]


def after(state: str, user: str = "ann", code: str | None = None) -> Coupon:
    """A coupon that was created, issued or used, each step a revision."""
    [coupon] = some_coupons(1)
    coupon = coupon._replace(code=code or coupon.code)
    if state in ("issued", "used"):
        coupon = changed(coupon, user=user)
    if state == "used":
        used = HistoryEntry(_an_operation(), Kind.USE, NOW + 2, None, "shop")
        coupon = changed(coupon, user=user)._replace(used_at=NOW + 2, history=(*coupon.history, used))
    return coupon


def changed(coupon: Coupon, user: str = "bob") -> Coupon:
    """The coupon after one more command, as its next revision."""
    issue = HistoryEntry(_an_operation(), Kind.ISSUE, NOW + 1, user, "shop")
    return coupon._replace(
        user_id=user,
        issued_at=NOW + 1,
        modified_at=NOW + 1,
        version=coupon.version + 1,
        revision=coupon.revision + 1,
        history=(*coupon.history, issue),
    )


def a_full_coupon(user: str = "ann") -> Coupon:
    """A coupon that remembers as much as one can: as its first revision, so that any store takes it."""
    [coupon] = some_coupons(1)
    return coupon._replace(
        user_id=user,
        issued_at=NOW + 1,
        used_at=NOW + 2,
        version=12_345,
        history=tuple(HistoryEntry(_an_operation(), kind, NOW, user, "shop") for kind in list(Kind) * 20)[:HISTORY_MAX],
        rejections=tuple(Rejection(_an_operation(), 1, reason, NOW) for reason in list(Reason) * REJECTIONS_MAX)[
            :REJECTIONS_MAX
        ],
        chunk_complete=True,
    )


def _an_operation() -> str:
    return secrets.token_hex(10)
