"""JSON whose types and bounds are checked when it is decoded: the common part of all encodings.

``decoded(msgspec.json.Decoder(CODE), b'"15BR0835OWXT4180EHZ"')`` is the code; of ``b'"15br"'`` it raises Malformed.
"""

from datetime import date
from functools import lru_cache
from typing import Annotated, Any, TypeVar

import msgspec

from coupon.domain.codes import LENGTH
from coupon.domain.errors import Malformed, OtherFormat
from coupon.domain.model import CHUNK, HISTORY_MAX, Day

INSTANT_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999."""
AMOUNT_MAX = 1_000_000_000
NUMBER_MAX = 2**62
NAME_MAX = 128
"""The most characters of the ids of users and operations, and of callers' names. They are the same for commands and
coupons: a coupon to which a command was applied can be decoded."""

CODE = Annotated[str, msgspec.Meta(pattern=rf"^[A-Z0-9]{{{LENGTH}}}\Z")]
NAME = Annotated[str, msgspec.Meta(max_length=NAME_MAX)]
INSTANT = Annotated[int, msgspec.Meta(ge=0, le=INSTANT_MAX)]
VERSION = Annotated[int, msgspec.Meta(ge=1, le=INSTANT_MAX)]
NUMBER = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
BOUNDS = {
    "code": CODE,
    "codes": Annotated[tuple[CODE, ...], msgspec.Meta(max_length=CHUNK)],
    "operation": NAME,
    "previous": NAME,
    "secret_fingerprint": NAME,
    "actor": NAME,
    "traceparent": NAME,
    "user_id": Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)] | None,
    "accepted_at": INSTANT,
    "number": NUMBER,
    "previous_number": NUMBER,
    "settled": NUMBER,
    "ahead": Annotated[int, msgspec.Meta(ge=0, le=HISTORY_MAX)],
    "previous_version": VERSION,
    "amount": Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)],
    "first": Annotated[int, msgspec.Meta(ge=0, lt=AMOUNT_MAX)],
    "size": Annotated[int, msgspec.Meta(ge=1, le=CHUNK)],
    "at": INSTANT,
    "created_at": INSTANT,
    "modified_at": INSTANT,
    "issued_at": INSTANT | None,
    "used_at": INSTANT | None,
    "creation_size": Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)],
    "version": VERSION,
    "revision": Annotated[int, msgspec.Meta(ge=1, le=INSTANT_MAX)],
}
"""The type of each field of a command or a coupon, with its bounds."""
Decoded = TypeVar("Decoded")
_ENCODER = msgspec.json.Encoder()
_ANYTHING: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder()


def dump(value: Any) -> bytes:
    """Compact JSON; raises ValueError for half a character (a lone surrogate)."""
    return _ENCODER.encode(value)


def load(data: bytes | str) -> Any:
    """Any JSON in UTF-8. Raises Malformed, also for JSON that is nested too deeply or has half a character, which no
    backend can store."""
    return decoded(_ANYTHING, data)


def decoded(decoder: "msgspec.json.Decoder[Decoded]", data: bytes | str) -> Decoded:
    """The decoder's value. Raises OtherFormat for an object that lacks a field other than ``kind``, else Malformed."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from error


@lru_cache(4096)
def check_days(*days: Day) -> None:
    """Raise Malformed unless all are ISO days. Valid ones are cached."""
    for day in days:
        try:
            is_day = date.fromisoformat(day).isoformat() == day
        except ValueError:
            is_day = False
        if not is_day:
            raise Malformed(f"{day!r:.100} is not a day")


def _refusal(reason: str) -> Malformed:
    is_other = reason.startswith("Object missing required field") and not reason.endswith("`kind`")
    return OtherFormat(reason) if is_other else Malformed(reason)
