"""The table ``Coupon`` as a PynamoDB model, and the fast way between its items and coupons.

The model is the schema: it makes the table, and any PynamoDB program can read the table with it. For the hot path
``item`` and ``coupon`` go between a coupon and DynamoDB's own form of an item in 6 µs instead of the model's 60; a test
holds them to what the model reads and writes.

Instants are numbers (milliseconds since the epoch), days ISO strings, history and rejections compact JSON. ``issued``
and ``used`` follow from the others; they are written for those who read the table by other means.
"""

from typing import Any

from pynamodb.attributes import BooleanAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.constants import PAY_PER_REQUEST_BILLING_MODE
from pynamodb.models import Model

from coupon.domain import serialization as wire
from coupon.domain.model import Coupon, Day

Item = dict[str, dict[str, Any]]
"""``{"couponCode": {"S": "…"}, …}``."""
_ABSENT: dict[str, Any] = {}
_NULL = {"NULL": True}


class CouponItem(Model):
    """An item of the table. Not bound to any table yet: see ``bind``."""

    code = UnicodeAttribute(hash_key=True, attr_name="couponCode")
    user_id = UnicodeAttribute(null=True, attr_name="userId")
    issued = BooleanAttribute()
    used = BooleanAttribute()
    valid_from = UnicodeAttribute(attr_name="validFrom")
    expire_at = UnicodeAttribute(attr_name="expireAt")
    created_at = NumberAttribute(attr_name="createdAt")
    modified_at = NumberAttribute(attr_name="modifiedAt")
    issued_at = NumberAttribute(null=True, attr_name="issuedAt")
    used_at = NumberAttribute(null=True, attr_name="usedAt")
    batch = NumberAttribute()
    version = NumberAttribute()
    revision = NumberAttribute()
    history = UnicodeAttribute()
    rejections = UnicodeAttribute(null=True)
    settled = NumberAttribute(null=True)


def bind(table: str, **options: Any) -> type[CouponItem]:
    """The model bound to one table at one address. PynamoDB keeps the connection with the class, and copies what
    ``Meta`` says when the class is declared: so every backend, and every process of it, gets a class of its own."""
    meta = type("Meta", (), {"table_name": table, "billing_mode": PAY_PER_REQUEST_BILLING_MODE, **options})
    return type("BoundCouponItem", (CouponItem,), {"Meta": meta})


def item(coupon: Coupon) -> Item:
    item: Item = {
        "couponCode": {"S": coupon.code},
        "issued": {"BOOL": coupon.user_id is not None},
        "used": {"BOOL": coupon.used_at is not None},
        "validFrom": {"S": coupon.valid_from},
        "expireAt": {"S": coupon.expire_at},
        "createdAt": {"N": str(coupon.created_at)},
        "modifiedAt": {"N": str(coupon.modified_at)},
        "batch": {"N": str(coupon.batch)},
        "version": {"N": str(coupon.version)},
        "revision": {"N": str(coupon.revision)},
        "history": {"S": wire.encode_history(coupon.history).decode()},
        "settled": {"N": str(coupon.settled)},
    }
    if coupon.user_id is not None:
        item["userId"] = {"S": coupon.user_id}
    if coupon.issued_at is not None:
        item["issuedAt"] = {"N": str(coupon.issued_at)}
    if coupon.used_at is not None:
        item["usedAt"] = {"N": str(coupon.used_at)}
    if coupon.rejections:
        item["rejections"] = {"S": wire.encode_rejections(coupon.rejections).decode()}
    return item


def coupon(item: Item) -> Coupon:
    """Raises what ``rows.NO_COUPON`` has for an item that is none's."""
    issued_at, used_at = _given(item, "issuedAt"), _given(item, "usedAt")
    user_id, rejections = _given(item, "userId"), _given(item, "rejections")
    version = int(item["version"]["N"])
    coupon = Coupon(
        code=item["couponCode"]["S"],
        valid_from=Day(item["validFrom"]["S"]),
        expire_at=Day(item["expireAt"]["S"]),
        created_at=int(item["createdAt"]["N"]),
        modified_at=int(item["modifiedAt"]["N"]),
        batch=int(item["batch"]["N"]),
        user_id=user_id["S"] if user_id else None,
        issued_at=int(issued_at["N"]) if issued_at else None,
        used_at=int(used_at["N"]) if used_at else None,
        version=version,
        revision=int(item["revision"]["N"]),
        history=wire.decode_history(item["history"]["S"]),
        rejections=wire.decode_rejections(rejections["S"]) if rejections else (),
        settled=int(item["settled"]["N"]) if "settled" in item else version,  # before coupons had numbers
    )
    return wire.checked(coupon)


def _given(item: Item, name: str) -> dict[str, Any] | None:
    """The value of an attribute that may be missing."""
    value = item.get(name)
    return None if value == _NULL else value


def size(item: Item) -> int:
    """What the item weighs in bytes at most: two texts that may be long, and the rest, which is 1 KB at most."""
    rejections = item.get("rejections", _ABSENT).get("S", "")
    return 1_000 + len(item["history"]["S"].encode()) + len(rejections.encode())
