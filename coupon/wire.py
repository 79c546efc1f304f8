"""The forms that coupons and commands take outside this process: cached bytes, queued bytes, documents.

All of them are JSON. What is decoded is checked: a queue is read long after it was written, by other versions too.
"""

import json
from datetime import UTC, datetime
from typing import Any, TypedDict

from coupon.model import Command, Coupon, CreateCoupons, Day, Entry, Kind, Reason, Rejection

_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)  # made once: that is a third of its work


class Malformed(ValueError):
    """Not a message of ours, or not of this version; the message says what is wrong."""


class Document(TypedDict):
    """A coupon by its wire names, as search returns it. Days are ISO days, instants ISO in UTC with ``Z``."""

    couponCode: str
    userId: str | None
    issued: bool
    used: bool
    validFrom: str
    expireAt: str
    issuedAt: str | None
    usedAt: str | None
    createdAt: str
    modifiedAt: str
    version: int


def document(coupon: Coupon) -> Document:
    return {
        "couponCode": coupon.code,
        "userId": coupon.user_id,
        "issued": coupon.user_id is not None,
        "used": coupon.used_at is not None,
        "validFrom": coupon.valid_from,
        "expireAt": coupon.expire_at,
        "issuedAt": instant(coupon.issued_at),
        "usedAt": instant(coupon.used_at),
        "createdAt": instant(coupon.created_at) or "",
        "modifiedAt": instant(coupon.modified_at) or "",
        "version": coupon.version,
    }


def instant(milliseconds: int | None) -> str | None:
    """``2026-11-22T15:40:43.123Z``."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def dump(value: Any) -> bytes:
    """Compact JSON."""
    return _JSON.encode(value).encode()


def load(data: bytes | str) -> Any:
    """Raises Malformed for what is not JSON, is nested beyond reading, or holds half a character (a lone surrogate,
    which no backend can store)."""
    try:
        value = json.loads(data)
        if (b"\\u" if isinstance(data, bytes) else "\\u") in data:  # type: ignore[operator]
            dump(value)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from error
    return value


def encode_history(history: tuple[Entry, ...]) -> bytes:
    return dump(history)


def decode_history(data: bytes | str) -> tuple[Entry, ...]:
    return _history(load(data))


def encode_rejections(rejections: tuple[Rejection, ...]) -> bytes:
    return dump(rejections)


def decode_rejections(data: bytes | str) -> tuple[Rejection, ...]:
    return _rejections(load(data))


def encode_coupon(coupon: Coupon) -> bytes:
    """All of the coupon."""
    return dump(coupon)


def decode_coupon(data: bytes) -> Coupon:
    """Raises Malformed."""
    try:
        *fields, history, rejections = load(data)
        return Coupon._make([*fields, _history(history), _rejections(rejections)])
    except (ValueError, TypeError) as error:
        raise Malformed(f"not a coupon: {error}") from error


def _history(rows: list[list[Any]]) -> tuple[Entry, ...]:
    return tuple(Entry(operation, Kind(kind), at, user, actor) for operation, kind, at, user, actor in rows)


def _rejections(rows: list[list[Any]]) -> tuple[Rejection, ...]:
    return tuple(Rejection(operation, previous, Reason(reason), at) for operation, previous, reason, at in rows)


def encode_command(command: Command | CreateCoupons) -> bytes:
    """A JSON object whose names are the command's fields, so that it can be read at 3 am, and extended."""
    return dump(command._asdict() | {"kind": Kind.CREATE} if isinstance(command, CreateCoupons) else command._asdict())


def decode_command(data: bytes) -> Command | CreateCoupons:
    """Raises Malformed for what can never be carried out: not JSON, unknown kind, missing or mistyped fields."""
    fields = load(data)
    if not isinstance(fields, dict):
        raise Malformed("not a JSON object")
    try:
        kind = Kind(str(fields.get("kind")))
    except ValueError as error:
        raise Malformed(f"unknown kind {fields.get('kind')!r}") from error
    return _decode_creation(fields) if kind is Kind.CREATE else _decode_change(kind, fields)


def _decode_creation(fields: dict[str, Any]) -> CreateCoupons:
    codes = _field(fields, "codes", list)
    if not all(isinstance(code, str) for code in codes):
        raise Malformed("codes are not all strings")
    return CreateCoupons(
        operation=_field(fields, "operation", str),
        amount=_field(fields, "amount", int),
        first=_field(fields, "first", int),
        size=_field(fields, "size", int),
        codes=tuple(codes),
        mint=_field(fields, "mint", str),
        valid_from=Day(_field(fields, "valid_from", str)),
        expire_at=Day(_field(fields, "expire_at", str)),
        accepted_at=_field(fields, "accepted_at", int),
        actor=_field(fields, "actor", str),
    )


def _decode_change(kind: Kind, fields: dict[str, Any]) -> Command:
    user_id = fields.get("user_id")
    if (user_id is not None and not isinstance(user_id, str)) or (kind is Kind.ISSUE and not user_id):
        raise Malformed(f"user_id is {user_id!r}")
    return Command(
        kind=kind,
        operation=_field(fields, "operation", str),
        code=_field(fields, "code", str),
        previous=_field(fields, "previous", str),
        previous_version=_field(fields, "previous_version", int),
        accepted_at=_field(fields, "accepted_at", int),
        day=Day(_field(fields, "day", str)),
        user_id=user_id,
        actor=_field(fields, "actor", str),
    )


def _field(fields: dict[str, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    if type(value) is not kind:
        raise Malformed(f"{name} is {value!r}, not of type {kind.__name__}")
    return value
