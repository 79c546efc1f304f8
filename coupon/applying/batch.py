"""What a worker polled, decoded and cut into parts that are small enough to be applied at once."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from coupon.domain.model import HISTORY_MAX, ChangeCoupon, CreateCoupons
from coupon.domain.serialization import Malformed, OtherFormat, decode_codes, decode_command
from coupon.domain.topics import OUTBOX
from coupon.ports.queue import Delivery, Position

PART_MAX = 1_000
"""Coupons in a part: it bounds the worker's memory, whatever the backlog."""
COMMANDS_A_COUPON_MAX = HISTORY_MAX // 2
"""Commands on one coupon in a part: one write of it. Those of one write are in the coupon's history together."""


Place = tuple[Position, int]
"""Where a message is: partition and offset. No two have the same."""


class OutboxEntry(NamedTuple):
    """Coupons whose documents have to be indexed again, or whose cache entries have to be looked at."""

    topic: str
    codes: tuple[str, ...]


class BadMessage(NamedTuple):
    """What can never be applied, and why."""

    reason: str


class OtherVersion(NamedTuple):
    """What another version wrote, and why it cannot be read."""

    reason: str


class Task(NamedTuple):
    """A delivery, where it is, and what it asks for."""

    delivery: Delivery
    place: Place
    wanted: ChangeCoupon | CreateCoupons | OutboxEntry | OtherVersion | BadMessage
    goes_on: bool = False
    """Whether this is only the first part of what the delivery asks for: it is not done yet."""

    @property
    def position(self) -> Position:
        return self.place[0]

    @property
    def command(self) -> ChangeCoupon:
        """What it asks for, where it is known to be a command."""
        assert isinstance(self.wanted, ChangeCoupon)  # noqa: S101
        return self.wanted

    @property
    def weight(self) -> int:
        """How many coupons it is about."""
        match self.wanted:
            case CreateCoupons():
                return self.wanted.size
            case OutboxEntry():
                return len(self.wanted.codes)
        return 1


def task(delivery: Delivery) -> Task:
    """The delivery, decoded; never raises."""
    return Task(delivery, (Position(delivery.topic, delivery.partition), delivery.offset), _wanted(delivery))


def _wanted(delivery: Delivery) -> ChangeCoupon | CreateCoupons | OutboxEntry | OtherVersion | BadMessage:
    try:
        if delivery.topic in OUTBOX:
            return OutboxEntry(delivery.topic, decode_codes(delivery.value))
        return decode_command(delivery.value)
    except OtherFormat as error:
        return OtherVersion(str(error))
    except Malformed as error:
        return BadMessage(str(error))


def split(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """The tasks in their order, cut so that no part is about too many coupons or too often about one."""
    part: list[Task] = []
    weight, commands = 0, Counter[str]()
    for item in tasks:
        code = item.wanted.code if isinstance(item.wanted, ChangeCoupon) else ""
        if part and (weight + item.weight > PART_MAX or (code and commands[code] >= COMMANDS_A_COUPON_MAX)):
            yield part
            part, weight, commands = [], 0, Counter()
        part.append(item)
        weight += item.weight
        commands[code] += 1
    if part:
        yield part
