"""The forms that coupons and commands take outside this process: cached bytes, queued bytes, documents.

All of them are JSON. What is decoded is checked: a queue is read long after it was written, by other versions too.
"""

import json
from datetime import UTC, date, datetime
from typing import Any, TypedDict

from coupon.codes import is_code
from coupon.model import CHUNK, Command, Coupon, CreateCoupons, Day, Entry, Kind, Reason, Rejection

_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)  # made once: that is a third of its work


INSTANT_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999."""
AMOUNT_MAX = 1_000_000_000


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
    """Raises Malformed for what is not JSON in UTF-8, is nested beyond reading, or holds half a character (a lone
    surrogate, which no backend can store)."""
    try:
        text = data if isinstance(data, str) else data.decode()
        value = json.loads(text)
        if "\\u" in text:
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
    return tuple(Rejection(operation, version, Reason(reason), at) for operation, version, reason, at in rows)


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
    size = _number(fields, "size", 1, CHUNK)
    codes = _field(fields, "codes", list)
    if codes and (len(codes) != size or not all(isinstance(code, str) and is_code(code) for code in codes)):
        raise Malformed(f"codes are not {size} codes")
    return CreateCoupons(
        operation=_field(fields, "operation", str),
        amount=_number(fields, "amount", 1, AMOUNT_MAX),
        first=_number(fields, "first", 0, AMOUNT_MAX - size),
        size=size,
        codes=tuple(codes),
        mint=_field(fields, "mint", str),
        valid_from=_day(fields, "valid_from"),
        expire_at=_day(fields, "expire_at"),
        accepted_at=_number(fields, "accepted_at", 0, INSTANT_MAX),
        actor=_field(fields, "actor", str),
    )


def _decode_change(kind: Kind, fields: dict[str, Any]) -> Command:
    user_id = fields.get("user_id")
    if (user_id is not None and not isinstance(user_id, str)) or (kind is Kind.ISSUE and not user_id):
        raise Malformed(f"user_id is {user_id!r}")
    code = _field(fields, "code", str)
    if not is_code(code):
        raise Malformed(f"code is {code!r}")
    return Command(
        kind=kind,
        operation=_field(fields, "operation", str),
        code=code,
        previous=_field(fields, "previous", str),
        previous_version=_number(fields, "previous_version", 1, INSTANT_MAX),
        previous_at=_number(fields, "previous_at", 0, INSTANT_MAX),
        accepted_at=_number(fields, "accepted_at", 0, INSTANT_MAX),
        day=_day(fields, "day"),
        user_id=user_id,
        actor=_field(fields, "actor", str),
        reserved=_field(fields, "reserved", bool),
    )


def _day(fields: dict[str, Any], name: str) -> Day:
    text = _field(fields, name, str)
    try:
        if date.fromisoformat(text).isoformat() == text:
            return Day(text)
    except ValueError:
        pass
    raise Malformed(f"{name} is {text!r}, not a day")


def _number(fields: dict[str, Any], name: str, low: int, high: int) -> int:
    number: int = _field(fields, name, int)
    if not low <= number <= high:
        raise Malformed(f"{name} is {number}, not from {low} to {high}")
    return number


def _field(fields: dict[str, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    if type(value) is not kind:
        raise Malformed(f"{name} is {value!r}, not of type {kind.__name__}")
    return value
