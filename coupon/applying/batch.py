"""Decoding the messages that were polled, and splitting them into parts that are small enough to be applied at once."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from coupon.domain.errors import Malformed, OtherFormat
from coupon.domain.model import HISTORY_MAX, ChangeCoupon, CreateCoupons
from coupon.domain.serialization import decode_codes, decode_command
from coupon.domain.topics import OUTBOX
from coupon.ports.queue import Delivery, Position

PART_MAX = 1_000
"""Most coupons in a part: it bounds the worker's memory, whatever the backlog."""
COMMANDS_A_COUPON_MAX = HISTORY_MAX // 2
"""Most commands on one coupon in a part, which are one write. The history has to hold all commands of a write."""


class RecordId(NamedTuple):
    """The partition and the offset of a message: its identity in the queue."""

    position: Position
    offset: int


class OutboxEntry(NamedTuple):
    """Codes of coupons to index again (topic ``reindex``), or whose cache entries to check (``invalidate``)."""

    topic: str
    codes: tuple[str, ...]


class BadMessage(NamedTuple):
    """A message that can never be applied, with the reason."""

    reason: str


class OtherVersion(NamedTuple):
    """A message that another version of Coupon wrote, with the reason why this one cannot decode it."""

    reason: str


class ForgedMessage(NamedTuple):
    """A message that nobody with a key has signed, with the reason."""

    reason: str


Payload = ChangeCoupon | CreateCoupons | OutboxEntry | OtherVersion | BadMessage | ForgedMessage


class Task(NamedTuple):
    """A delivery with its record id and its decoded payload."""

    delivery: Delivery
    record_id: RecordId
    payload: Payload
    is_partial: bool = False
    """Whether the payload is only a part of the delivery's, and more of it has yet to be applied."""

    @property
    def position(self) -> Position:
        return self.record_id[0]

    @property
    def command(self) -> ChangeCoupon:
        """The payload, which has to be a change."""
        assert isinstance(self.payload, ChangeCoupon)  # noqa: S101
        return self.payload

    @property
    def weight(self) -> int:
        """The number of the payload's coupons."""
        match self.payload:
            case CreateCoupons():
                return self.payload.size
            case OutboxEntry():
                return len(self.payload.codes)
        return 1


def task(delivery: Delivery) -> Task:
    """The delivery, decoded. Never raises."""
    record_id = RecordId(Position(delivery.topic, delivery.partition), delivery.offset)
    return Task(delivery, record_id, _payload(delivery))


def _payload(delivery: Delivery) -> Payload:
    if delivery.forged:
        return ForgedMessage(delivery.forged.reason)
    try:
        if delivery.topic in OUTBOX:
            return OutboxEntry(delivery.topic, decode_codes(delivery.value))
        return decode_command(delivery.value)
    except OtherFormat as error:
        return OtherVersion(str(error))
    except Malformed as error:
        return BadMessage(str(error))


def split(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """The tasks in their order, in parts of up to PART_MAX coupons and COMMANDS_A_COUPON_MAX commands on one coupon."""
    part: list[Task] = []
    weight, commands = 0, Counter[str]()
    for item in tasks:
        code = item.payload.code if isinstance(item.payload, ChangeCoupon) else ""
        if part and (weight + item.weight > PART_MAX or (code and commands[code] >= COMMANDS_A_COUPON_MAX)):
            yield part
            part, weight, commands = [], 0, Counter()
        part.append(item)
        weight += item.weight
        commands[code] += 1
    if part:
        yield part
