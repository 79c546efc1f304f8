"""The verdict on what was accepted and then rejected, and on answers that contradict each other, of one coupon.

Who is alone with a coupon and waits for each answer never loses, whatever is lost. Among several, a command loses to
a command of another that was under way at the same time, or together with its predecessor.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

from coupon.domain.errors import Refused
from coupon.domain.model import KEY_LENGTH, ChangeCoupon, Coupon, CreateCoupons, transition
from tests.proof.lineage import Violation, imagined, refuses
from tests.proof.record import Request

FOR_ANOTHERS = "rejected for another's command only"
NO_CONTRADICTION = "yes and no do not contradict each other"


class Span(NamedTuple):
    """When an operation was under way: from its first request until it was accepted, or reached the queue, whichever
    was later. It stays open until it was applied when its client never got a 202. Without the cache it then stays open
    for good: the worker looks at the cache after the save."""

    begun: float
    ended: float

    def overlaps(self, other: "Span") -> bool:
        return self.begun <= other.ended and other.begun <= self.ended


@dataclass
class Losers:
    """Of one coupon: ``asked`` by operation, what the queue holds, when each message reached it (empty: unknown), and
    when the store had each operation.

    A reservation ``holds`` for so long. ``unknown``: see ``unknown_to_the_cache``.
    """

    asked: Mapping[str, list[Request]]
    commands: list[ChangeCoupon]
    landed: Mapping[ChangeCoupon | CreateCoupons, float]
    applied: Mapping[str, float]
    holds: float
    unknown: Container[str]
    address: Callable[[ChangeCoupon], str]

    def violations(self, stored: Coupon) -> Iterator[Violation]:
        for command in self.commands:
            if (
                stored.entry(command.operation) is None
                and self._was_accepted(command)
                and not self._is_excused(command.operation, stored, set())
            ):
                yield Violation(FOR_ANOTHERS, f"{command} was accepted, and is not in {stored}")

    def _was_accepted(self, command: ChangeCoupon) -> bool:
        address = self.address(command)
        return any(request.accepted and request.address == address for request in self.asked.get(command.operation, ()))

    def _is_excused(self, operation: str, stored: Coupon, seen: set[str]) -> bool:
        """Whether a rejection has its reason: another's command won, or the predecessor lost and is excused.

        The other command was under way at the same time, or reached the queue when its reservation had expired.
        """
        seen.add(operation)
        mine, span = self._owners(operation), self._span(operation)
        for entry in stored.history[1:]:
            is_ours = len(mine) == 1 and self._owners(entry.operation) == mine and self._accepted(entry.operation)
            is_ours = is_ours and entry.operation[:KEY_LENGTH] != operation[:KEY_LENGTH]  # one key, used twice at once
            if self._is_a_surprise(entry.operation) or (not is_ours and span.overlaps(self._span(entry.operation))):
                return True
        return any(
            self._builds_on_the_past(command, stored)
            if _is_applied(command.previous, command.previous_number, stored)
            else command.previous not in seen and self._is_excused(command.previous, stored, seen)
            for command in self.commands
            if command.operation == operation
        )

    def _builds_on_the_past(self, command: ChangeCoupon, stored: Coupon) -> bool:
        """Its place was taken by a command that the cache did not know of."""
        winner = stored.entry_at(command.previous_version + 1)
        return winner is not None and winner.operation in self.unknown

    def _owners(self, operation: str) -> set[str]:
        return {request.client for request in self.asked.get(operation, ())}

    def _span(self, operation: str) -> Span:
        requests, accepted = self.asked.get(operation, []), self._accepted(operation)
        begun = min((request.sent for request in requests), default=float("-inf"))
        if not accepted:
            return Span(
                begun, float("inf") if self._is_uncached(operation) else self.applied.get(operation, float("inf"))
            )
        if not self.landed and any(request.status in (0, 503) for request in requests):
            return Span(begun, float("inf"))  # may reach the queue at any time
        return Span(begun, max([min(accepted), *self._landed(operation)]))

    def _is_uncached(self, operation: str) -> bool:
        """Whether a process without the cache sent it. Then it is under way until the worker has looked at the cache:
        its client is answered after that."""
        return any(command.operation == operation and not command.reserved for command in self.commands)

    def _accepted(self, operation: str) -> list[float]:
        """When a client knew that it was."""
        return [request.ended for request in self.asked.get(operation, ()) if request.accepted]

    def _landed(self, operation: str) -> list[float]:
        return [self.landed[c] for c in self.commands if c.operation == operation and c in self.landed]

    def _is_a_surprise(self, operation: str) -> bool:
        """An excuse: a message that reached the queue later than its reservation held, because a process was
        stopped in between or the network kept it. Its client has had no answer; nobody can know of it before."""
        for landed in self._landed(operation):
            sent = [request.sent for request in self.asked.get(operation, ()) if request.sent <= landed]
            if sent and landed - max(sent) > self.holds:
                return True
        return False


def _is_applied(operation: str, number: int, stored: Coupon) -> bool:
    """Whether that attempt was. Another attempt of the operation may have been, with another number."""
    entry = stored.entry(operation)
    return entry is not None and entry.number == number


def unknown_to_the_cache(code: str, commands: Iterable[ChangeCoupon], owed_to_the_cache: Container[str]) -> set[str]:
    """The other excuse: operations that were accepted without the cache, and applied without it, too.

    What the cache holds of the coupon is past then. The worker has put the code into the outbox, and goes on. Until the
    code is looked at, whoever believes the cache loses to these.
    """
    return {command.operation for command in commands if not command.reserved} if code in owed_to_the_cache else set()


def contradictions(created: Coupon, requests: Iterable[Request], until: float) -> Iterator[Violation]:
    """Of a coupon that only one client asks for, one after the other: each yes or no follows from what it was told
    before. Judged are those that it sent ``until`` then, up to the first one whose answer never came, or during which
    it asked for something else."""
    in_order = sorted(requests, key=lambda request: request.sent)
    if len({request.client for request in in_order}) > 1:
        return
    expected, done, open_ = created, set(), set()
    for request, following in zip_longest(in_order, in_order[1:]):
        one = (request.key, request.words)
        if request.sent > until or open_ - {one} or (following is not None and following.sent < request.ended):
            return
        if request.status in (0, 503):
            open_.add(one)
        elif request.accepted and one not in done:
            open_.discard(one)
            done.add(one)
            try:
                expected = transition(expected, imagined(expected, request))
            except Refused as refused:
                yield Violation(NO_CONTRADICTION, f"{request}, though {refused} follows from what was told before")
                return
        elif request.status == 409:
            if one in done or not refuses(expected, request):
                yield Violation(NO_CONTRADICTION, f"{request}, though it was told that {expected}")
                return
            if one in open_:
                return
