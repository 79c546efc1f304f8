"""What somebody else may write into the cache or the queue: it must do no harm."""

from collections.abc import Sequence

from coupon.domain.model import Coupon, HistoryEntry
from coupon.domain.serialization import dump
from coupon.domain.topics import INVALIDATE, REINDEX

UNREADABLE = {
    "": (b"", b"\x80\x04", b"[]", b"{}", b'{"kind":"misuse"}', b'{"kind":"use","code":7}', b"1" * 100),
    REINDEX: (b"", b"null", b'["a b"]', b'["' + b"A" * 300 + b'"]', b'[["AAAAAAAAAAAAAAAAAAA"]]'),
    INVALIDATE: (b"", b"null", b'["a b"]', b'["' + b"A" * 300 + b'"]', b'[["AAAAAAAAAAAAAAAAAAA"]]'),
}
"""By topic, and for all topics of commands: messages that nobody can apply. (None that only lacks a field: another
version's may, and have their partition left alone.)"""
VERSION = 10**16
CONFIRMED = b"C"
"""As 511aa48 wrote it."""


def entries(coupon: Coupon, others: Sequence[bytes]) -> list[bytes]:
    """What may stand under the coupon's key; ``others`` are entries of other coupons."""
    forged = HistoryEntry("forged", coupon.history[-1].kind, coupon.modified_at, None, "proof")
    return [
        b"garbage",
        b"C",
        CONFIRMED + b"{}",
        CONFIRMED + b"[" * 2_000,
        CONFIRMED + _as_of_511aa48(coupon),
        CONFIRMED + _as_of_511aa48(coupon._replace(version=VERSION)),
        CONFIRMED + _as_of_511aa48(coupon._replace(history=())),
        CONFIRMED + _as_of_511aa48(coupon._replace(version=coupon.version + 1, history=(*coupon.history, forged))),
        *others,
    ]


def _as_of_511aa48(coupon: Coupon) -> bytes:
    """A coupon as that commit wrote it into the cache: without a seal."""
    return dump([*coupon[:11], [entry[:5] for entry in coupon.history], []])
