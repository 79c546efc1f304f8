"""What somebody else may write into the cache or the queue: it must do no harm."""

from collections.abc import Sequence
from random import Random

from coupon.domain.model import ChangeCoupon, Coupon, CreateCoupons, Day, HistoryEntry, Kind
from coupon.domain.serialization import dump, encode_command
from coupon.domain.signatures import MessageKey
from coupon.domain.topics import CREATION, INVALIDATE, REINDEX, REJECTIONS
from coupon.ports.queue import Delivery, Message

UNREADABLE = {
    "": (b"", b"\x80\x04", b"[]", b"{}", b'{"kind":"misuse"}', b'{"kind":"use","code":7}', b"1" * 100),
    REINDEX: (b"", b"null", b'["a b"]', b'["' + b"A" * 300 + b'"]', b'[["AAAAAAAAAAAAAAAAAAA"]]'),
    INVALIDATE: (b"", b"null", b'["a b"]', b'["' + b"A" * 300 + b'"]', b'[["AAAAAAAAAAAAAAAAAAA"]]'),
}
"""By topic, and for all topics of commands: messages that nobody can apply. (None that only lacks a field: another
version's may, and have their partition left alone.)"""
VERSION = 10**16
FORGER, MINTED = "mallory", "F" * 19
"""The actor of every forged command, and the code of the coupon that he would like to make."""
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


def forged(random: Random, topics: Sequence[str], coupons: Sequence[Coupon], ours: Sequence[Delivery]) -> list[Message]:
    """What somebody without a key may write: whatever he likes, with no signature or one of his own. Or what he found
    in the topics, in other places or changed."""
    stranger, day = MessageKey("a secret of mallory"), Day("2026-11-20")
    mint = CreateCoupons("minted", 1, 0, 1, (MINTED,), "", day, day, 0, FORGER)
    messages = [Message(CREATION, "k", encode_command(mint))]
    for coupon in coupons:
        kind = Kind.CANCEL if coupon.issued else Kind.ISSUE
        user, number = None if coupon.issued else FORGER, coupon.settled + 1
        change = ChangeCoupon(
            kind, f"forged {number}", coupon.code, coupon.last_operation, coupon.version, coupon.modified_at, day, user,
            FORGER, True, number, coupon.number_at(coupon.version),
        )  # fmt: skip
        loser = {"code": coupon.code, "operation": coupon.last_operation, "previous_version": coupon.version}
        loser |= {"at": 0, "reason": "RIVAL_WON", "number": 2**50}
        messages += [Message(topic, coupon.code, encode_command(change)) for topic in topics]
        messages += [Message(REJECTIONS, coupon.code, dump(loser))]
    messages += [Message(each.topic, each.key, stranger.sign(*each)) for each in messages]
    messages += [Message(random.choice(topics), each.key, each.value + b" ") for each in ours]
    messages += [Message(random.choice([t for t in topics if t != each.topic]), each.key, each.value) for each in ours]
    return random.sample(messages, min(4, len(messages)))


def _as_of_511aa48(coupon: Coupon) -> bytes:
    """A coupon as that commit wrote it into the cache: without a seal."""
    return dump([*coupon[:11], [entry[:5] for entry in coupon.history], []])
