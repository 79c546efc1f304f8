"""Coupons in stores and in the cache; fences and epochs in the cache.

A tuple is an array of its fields, in their order. So a coupon is

``["15BR0835OWXT4180EHZ", "2026-11-01", "2026-12-31", …, [["xp56iy0stjjq5mrjdhux", "create", …]], [], 1, false]``

The array of an earlier version is shorter: a new field is the last one, and gets its default.
"""

from operator import itemgetter
from typing import Annotated, Any, get_type_hints

import msgspec

from coupon.domain.codes import LENGTH, is_code
from coupon.domain.errors import Malformed
from coupon.domain.model import HISTORY_MAX, REJECTIONS_MAX, Coupon, HistoryEntry, Rejection
from coupon.domain.serialization.json_format import BOUNDS, Decoded, check_days, decoded, dump

Fence = tuple[tuple[str, int, int], ...]
"""(topic, partition, offset of the next message) of some partitions: the queue's end at some moment."""

encode_history = encode_rejections = encode_coupon = dump
"""The array of a history, of rejections, or of a coupon."""


def decode_history(data: bytes | str) -> tuple[HistoryEntry, ...]:
    """Raises Malformed."""
    return decoded(_HISTORY, data)


def decode_rejections(data: bytes | str) -> tuple[Rejection, ...]:
    """Raises Malformed."""
    return decoded(_REJECTIONS, data)


def decode_coupon(data: bytes | str) -> Coupon:
    """Raises Malformed."""
    return _consistent(decoded(_COUPON, data))


def checked(coupon: Coupon) -> Coupon:
    """The coupon, if its fields are within their bounds; raises Malformed. For rows with a column for each field:
    history and rejections are decoded already, and not checked again."""
    try:
        msgspec.convert(_head(coupon), _HEAD)
    except msgspec.ValidationError as error:
        raise Malformed(str(error)) from error
    return _consistent(coupon)


def decode_fence(data: bytes) -> Fence | None:
    """Raises Malformed."""
    return decoded(_FENCE, data)


def decode_epoch(data: bytes) -> tuple[str, int | None, Fence | None]:
    """Raises Malformed."""
    return decoded(_EPOCH_ENTRY, data)


def _consistent(coupon: Coupon) -> Coupon:
    """The coupon; raises Malformed unless its fields fit together. Earlier versions marked a complete imported chunk by
    a ``creation_size`` of 0 instead of ``chunk_complete``."""
    code = coupon.code
    if not is_code(code):
        raise Malformed(f"{code!r:.100} is not a code")
    if not 1 <= len(coupon.history) <= coupon.version:
        raise Malformed(f"{len(coupon.history)} commands in the history of version {coupon.version}")
    check_days(coupon.valid_from, coupon.expire_at)
    if not coupon.creation_size and not coupon.chunk_complete:
        return coupon._replace(chunk_complete=True)
    return coupon


def _bounded(kind: type[Decoded], **fields: Any) -> type[Decoded]:
    """A subclass of the tuple, whose fields have their bounds. Decoding it is as fast as decoding the tuple."""
    bounds = {name: fields.get(name, BOUNDS.get(name, hint)) for name, hint in get_type_hints(kind).items()}
    return type(kind.__name__, (kind,), {"__annotations__": bounds, "__slots__": ()})


_LISTS: dict[str, Any] = {
    "history": Annotated[tuple[_bounded(HistoryEntry), ...], msgspec.Meta(min_length=1, max_length=HISTORY_MAX)],  # type: ignore[misc]
    "rejections": Annotated[tuple[_bounded(Rejection), ...], msgspec.Meta(max_length=REJECTIONS_MAX)],  # type: ignore[misc]
}
_CODE_OF_LENGTH = Annotated[str, msgspec.Meta(max_length=LENGTH)]  # a pattern costs as much as all the rest
_COUPON = msgspec.json.Decoder(_bounded(Coupon, code=_CODE_OF_LENGTH, **_LISTS))
_HISTORY: "msgspec.json.Decoder[tuple[HistoryEntry, ...]]" = msgspec.json.Decoder(_LISTS["history"])
_REJECTIONS: "msgspec.json.Decoder[tuple[Rejection, ...]]" = msgspec.json.Decoder(_LISTS["rejections"])
_HEAD_HINTS = {name: BOUNDS.get(name, hint) for name, hint in get_type_hints(Coupon).items() if name not in _LISTS}
_HEAD = msgspec.defstruct("Head", list(_HEAD_HINTS.items()), array_like=True)
_head = itemgetter(*map(Coupon._fields.index, _HEAD_HINTS))
_FENCE: "msgspec.json.Decoder[Fence | None]" = msgspec.json.Decoder(Fence | None)
_EPOCH_ENTRY: "msgspec.json.Decoder[tuple[str, int | None, Fence | None]]" = msgspec.json.Decoder(
    tuple[str, int | None, Fence | None]
)
