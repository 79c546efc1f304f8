"""Messages of the queue: commands, lost attempts, and lists of codes.

A command is an object whose names are its fields, so that people can read it, and later versions can add fields:

``{"kind": "issue", "operation": "h3rkrog4p2b5pkh7i6sm", "code": "15BR0835OWXT4180EHZ", …, "user_id": "ann"}``

A message of the outbox is an array of codes: ``["15BR0835OWXT4180EHZ"]``. Dead letters have their own module,
``coupon/applying/dead_letters.py``.
"""

from typing import Any, get_type_hints

import msgspec

from coupon.domain.errors import Malformed
from coupon.domain.model import ChangeCoupon, CreateCoupons, Kind, Loser
from coupon.domain.serialization.json_format import AMOUNT_MAX, BOUNDS, check_days, decoded, dump

DEFAULTS = {"number": 0, "previous_number": 0, "traceparent": ""}
"""The fields that messages of earlier versions lack. For the numbers of version 511aa48 see ``_change``."""
MESSAGE_NAMES = {"secret_fingerprint": "mint"}
"""Names in messages that are not the field's own. Messages of earlier versions have them."""


def encode_command(command: ChangeCoupon | CreateCoupons) -> bytes:
    """The object of the command's fields; that of a creation also has a ``kind``."""
    if isinstance(command, CreateCoupons):
        return dump(dict(zip(_CREATION_NAMES, command, strict=True)) | {"kind": Kind.CREATE})
    return dump(command._asdict())


def decode_command(data: bytes) -> ChangeCoupon | CreateCoupons:
    """Raises OtherFormat for a command of another version. Raises Malformed for a message that can never be
    applied: it is not JSON, its kind is unknown, or a field is invalid."""
    if decoded(_KIND, data).kind is Kind.CREATE:
        return _creation(CreateCoupons(*msgspec.structs.astuple(decoded(_CREATION, data))))
    return _change(ChangeCoupon(*msgspec.structs.astuple(decoded(_CHANGE, data))))


def decode_loser(data: bytes) -> Loser:
    """Raises Malformed."""
    return Loser(*msgspec.structs.astuple(decoded(_LOSER, data)))


def decode_codes(data: bytes) -> tuple[str, ...]:
    """Up to ``CHUNK`` codes; raises Malformed."""
    return decoded(_CODES, data)


def _creation(command: CreateCoupons) -> CreateCoupons:
    if len(command.codes) not in (0, command.size):
        raise Malformed(f"{len(command.codes)} codes for {command.size} coupons")
    if command.first + command.size > AMOUNT_MAX:
        raise Malformed(f"first is {command.first}, beyond {AMOUNT_MAX} coupons")
    check_days(command.valid_from, command.expire_at)
    return command


def _change(command: ChangeCoupon) -> ChangeCoupon:
    if command.kind is Kind.ISSUE and not command.user_id:
        raise Malformed(f"issued to {command.user_id!r}")
    check_days(command.day)
    if not command.number:  # the message is older than numbers: then it is the version that the command makes
        return command._replace(number=command.previous_version + 1, previous_number=command.previous_version)
    return command


class _Kind(msgspec.Struct):
    """The field that is decoded first: the other fields of a message depend on it."""

    kind: Kind


def _decoder(message: type[tuple[Any, ...]]) -> "msgspec.json.Decoder[Any]":
    """A decoder of objects with the tuple's fields, within their bounds."""
    kinds = [(name, BOUNDS.get(name, kind)) for name, kind in get_type_hints(message).items()]
    fields = [(name, kind, DEFAULTS[name]) if name in DEFAULTS else (name, kind) for name, kind in kinds]
    return msgspec.json.Decoder(msgspec.defstruct(message.__name__, fields, rename=MESSAGE_NAMES))


_KIND = msgspec.json.Decoder(_Kind)
_CHANGE, _CREATION, _LOSER = _decoder(ChangeCoupon), _decoder(CreateCoupons), _decoder(Loser)
_CREATION_NAMES = [MESSAGE_NAMES.get(name, name) for name in CreateCoupons._fields]
_CODES: "msgspec.json.Decoder[tuple[str, ...]]" = msgspec.json.Decoder(BOUNDS["codes"])
