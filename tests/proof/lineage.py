"""The verdict on one coupon: its history is one chain, each step asked for, allowed, and in the order of real time.

Every command names the operation and its number that it builds on. So the commands of a coupon make a tree of the
states that were ever promised to somebody. The history is the one branch that won. Every response to a client must
follow from some state of the tree at the time.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from coupon.domain.errors import Refused
from coupon.domain.model import (
    KEY_LENGTH,
    ChangeCoupon,
    Coupon,
    HistoryEntry,
    Kind,
    ensure_allowed,
    number_of,
    transition,
)
from tests.proof.record import FIRST, Observed, Read, Request

Node = tuple[str, int]
"""An operation and the number of one of its attempts: a state that somebody was promised."""
ONCE = {Kind.ISSUE: Kind.CANCEL, Kind.USE: Kind.CANCEL_USE}
"""What may not happen again before it was undone: a code is held by one user, and used once."""


class Violation(NamedTuple):
    """A promise that was broken, and what shows it."""

    promise: str
    what: str


@dataclass
class Lineage:
    """What the clients saw of one coupon: ``asked`` by operation, ``observed`` with the operation of the address."""

    asked: dict[str, list[Request]]
    reads: list[Read]
    refusals: list[Request]
    observed: list[tuple[str, Observed]]
    lost: list[Request]
    """Told no after the worker's verdict."""

    def violations(self, created: Coupon, stored: Coupon, commands: list[ChangeCoupon]) -> Iterator[Violation]:
        """``created`` is the coupon as its creation makes it, ``commands`` all that the queue holds for it."""
        yield from one_chain(created, stored, commands)
        yield from held_by_one_and_used_once(stored)
        states = dict(tree(created, commands))
        yield from rejected_or_applied(stored, commands)
        for command in commands:
            if made_by(command) not in states:
                yield Violation("built on what was accepted", f"{command} builds on nothing that the queue holds")
        yield from self.told_of_the_verdict(stored, commands)
        yield from self.in_the_order_of_real_time(stored)
        yield from self.reads_go_forward(stored)
        yield from self.refusals_follow(states, stored)

    def told_of_the_verdict(self, stored: Coupon, commands: list[ChangeCoupon]) -> Iterator[Violation]:
        """Who was told that his command lost has an attempt in the queue that was settled, and not applied."""
        applied = {made(entry) for entry in stored.history}
        lost = {command.operation for command in commands if made_by(command) not in applied}
        for request in self.lost:
            if not any(request in asked and operation in lost for operation, asked in self.asked.items()):
                yield Violation("refusals follow", f"{request} of no command that lost in {stored}")

    def in_the_order_of_real_time(self, stored: Coupon) -> Iterator[Violation]:
        """What was accepted before another was asked for comes first."""
        latest: tuple[float, str] = (float("-inf"), "")
        for entry in stored.history[1:]:
            asked = self.asked.get(entry.operation, [])
            accepted = [r.ended for r in asked if r.accepted and _number(r) == entry.number]
            if accepted and min(accepted) < latest[0]:
                yield Violation("in the order of real time", f"{entry} was accepted before {latest[1]} was asked for")
            latest = max(latest, (min((r.sent for r in asked), default=float("-inf")), entry.operation))

    def reads_go_forward(self, stored: Coupon) -> Iterator[Violation]:
        """Every read is a beginning of the history (or the last of one), and no later one knows less."""
        history = tuple(entry.operation for entry in stored.history)
        for read in self.reads:
            if read.operations != history[read.version - len(read.operations) : read.version]:
                yield Violation("reads go forward", f"{read} is no beginning of {history}")
        seen = sorted(self.seen(stored))
        known = 0
        for read in sorted(self.reads, key=lambda read: read.sent):
            while seen and seen[0][0] < read.sent:
                known = max(known, seen.pop(0)[1])
            if read.version < known:
                yield Violation("reads go forward", f"{read} knows less than version {known}, which was seen before")

    def seen(self, stored: Coupon) -> Iterator[tuple[float, int]]:
        """When somebody knew that the store had reached a version."""
        place = {entry.operation: version for version, entry in enumerate(stored.history, 1)}
        yield from ((read.ended, read.version) for read in self.reads)
        for operation, observed in self.observed:
            if observed.status == "applied" and operation in place:
                yield observed.ended, place[operation]
        for operation, requests in self.asked.items():
            yield from ((r.ended, place[operation]) for r in requests if r.status == 200 and operation in place)

    def refusals_follow(self, states: dict[Node, Coupon], stored: Coupon) -> Iterator[Violation]:
        """A refusal is right in some state that was promised by then, and not known to be past."""
        seen = sorted(self.seen(stored))
        until = dict(past(states, stored))
        for refusal in self.refusals:
            known = max((version for at, version in seen if at < refusal.sent), default=0)
            if refusal.status == 404:
                if known:
                    yield Violation("refusals follow", f"{refusal} of a coupon that was seen before")
                continue
            candidates = [
                state
                for node, state in states.items()
                if known < until[node] and self.begun(node[0]) <= refusal.ended and refuses(state, refusal)
            ]
            if not candidates:
                yield Violation("refusals follow", f"{refusal} follows from no state of {stored}")

    def begun(self, operation: str) -> float:
        """When it was first asked for."""
        return min((request.sent for request in self.asked.get(operation, [])), default=float("inf"))


def rejected_or_applied(stored: Coupon, commands: Iterable[ChangeCoupon]) -> Iterator[Violation]:
    """What is recorded as rejected is an attempt of the queue, and was not applied too."""
    known, applied = {made_by(command) for command in commands}, {made(entry) for entry in stored.history}
    for rejection in stored.rejections:
        node = rejection.operation, number_of(rejection)
        if node not in known:
            yield Violation("nothing from nowhere", f"{rejection} is of no command of the queue")
        if node in applied:
            yield Violation("one outcome", f"{rejection} was applied too")


def one_chain(created: Coupon, stored: Coupon, commands: list[ChangeCoupon]) -> Iterator[Violation]:
    """The stored coupon is what its commands make of it, one after the other, by ``transition``."""
    by_entry = {(command.operation, command.number, command.accepted_at): command for command in commands}
    state = created
    for entry in stored.history[1:]:
        command = by_entry.get((entry.operation, entry.number, entry.at))
        if command is None or (command.previous, command.previous_version) != (state.last_operation, state.version):
            yield Violation("one chain", f"{entry} after {state.last_operation} is no command of the queue: {command}")
            return
        if command.number <= state.settled:
            yield Violation("one chain", f"{command} was applied when {state.settled} was settled")
        try:
            state = whole(transition(state, command), state)
        except Refused as refused:
            yield Violation("one chain", f"{command} was applied to {state}, which refuses it: {refused}")
            return
    settled = max([state.settled, *map(number_of, stored.rejections)])
    if state._replace(settled=0) != stored._replace(revision=state.revision, rejections=(), settled=0, ahead=0):
        yield Violation("the store equals the fold", f"{stored} should be {state}")
    if stored.settled < settled:
        yield Violation("the store equals the fold", f"{stored} has settled {settled}")


def whole(after: Coupon, before: Coupon) -> Coupon:
    """With all of its history, however little of it a coupon remembers."""
    return after._replace(history=(*before.history, after.history[-1]))


def held_by_one_and_used_once(stored: Coupon) -> Iterator[Violation]:
    """From the history's words alone, whatever ``transition`` says."""
    for kind, undone in ONCE.items():
        steps = [entry for entry in stored.history if entry.kind in (kind, undone)]
        expected = [kind, undone] * len(steps)
        if [entry.kind for entry in steps] != expected[: len(steps)]:
            yield Violation("one winner", f"{stored.code}: {[str(entry.kind) for entry in stored.history]}")


def as_the_queue_has_it(
    created: Coupon,
    stored: Coupon,
    commands: Iterable[ChangeCoupon],
    remembered: int,
    is_ahead: Callable[[Node], bool],
) -> Iterator[Violation]:
    """Where the queue keeps the order, it alone decides which commands won, but for those that web processes applied.

    Each command in turn either builds on the last one that won and has a number beyond all before, or has lost for
    good. One that a web process applied (``is_ahead``) wins against a rival that the queue has before it. Another
    attempt of its operation may have been met before that, and rejected, or after it. ``remembered``: so many
    rejections at least.
    """
    actual = [made(entry) for entry in stored.history]
    ahead = {node for node in actual if is_ahead(node)}
    won, lost, unsure, settled = [made(created.history[-1])], dict[Node, None](), set[Node](), 1
    for command in commands:
        node = made_by(command)
        if node in lost or command.operation in {operation for operation, _ in won}:
            settled = max(settled, command.number)  # another attempt of what has won is settled, too
            continue
        reused = command.operation[:KEY_LENGTH] in {operation[:KEY_LENGTH] for operation, _ in won}
        turn = (command.previous_version, command.previous) == (len(won), won[-1][0])
        winner = next(iter(actual[len(won) : len(won) + 1]), node)
        if turn and (winner == node if winner in ahead else command.number > settled and not reused):
            won.append(node)
        elif command.operation in {operation for operation, _ in ahead}:
            unsure.add(node)
        else:
            lost[node] = None
        settled = max(settled, command.number)
    if won != actual:
        yield Violation("as the queue has it", f"{won} should be the history of {stored}")
    known = {(rejection.operation, number_of(rejection)) for rejection in stored.rejections} - unsure
    if not known <= set(lost) or (len(lost) + len(unsure) <= remembered and known != set(lost)):
        yield Violation("as the queue has it", f"{list(lost)} should be the rejections of {stored}")
    if settled != stored.settled:
        yield Violation("as the queue has it", f"{settled} should be settled in {stored}")


def tree(created: Coupon, commands: Iterable[ChangeCoupon]) -> Iterator[tuple[Node, Coupon]]:
    """Every state that a client was ever promised, by the attempt that made it."""
    states = {made(created.history[-1]): created}
    for command in sorted(commands, key=lambda command: command.previous_version):
        before = states.get(built_on(command))
        if before is None:
            continue
        try:
            states[made_by(command)] = whole(transition(before, command), before)
        except Refused:
            continue
    yield from states.items()


def past(states: dict[Node, Coupon], stored: Coupon) -> Iterator[tuple[Node, int]]:
    """The version of the store from which on the state is certainly past.

    That is the next version after a state of the history. For a state of a branch that lost, it is the version where
    that branch left the history.
    """
    for node, state in states.items():
        left = _where_they_part(state.history, stored.history)
        yield node, state.version + 1 if left is None else left + 1


def _where_they_part(branch: tuple[HistoryEntry, ...], history: tuple[HistoryEntry, ...]) -> int | None:
    """The place of the first entry that is of another operation."""
    pairs = enumerate(zip(branch, history, strict=False))
    return next((place for place, (one, other) in pairs if one.operation != other.operation), None)


def made_by(command: ChangeCoupon) -> Node:
    return command.operation, command.number


def made(entry: HistoryEntry) -> Node:
    return entry.operation, entry.number


def built_on(command: ChangeCoupon) -> Node:
    return command.previous, command.previous_number


def is_settled(coupon: Coupon, operation: str, number: int) -> bool:
    """Whether the coupon tells what became of the attempt. An operation that happened is settled with all of its
    attempts, and with all other requests that have its key."""
    key = operation[:KEY_LENGTH]
    return number <= coupon.settled or any(entry.operation[:KEY_LENGTH] == key for entry in coupon.history)


def _number(request: Request) -> int:
    """The number of the attempt that it was given the address of."""
    return int(request.address.split("-")[1])


def imagined(state: Coupon, request: Request) -> ChangeCoupon:
    """What the request asks for, as a command on that state."""
    return ChangeCoupon(
        kind=Kind(request.kind),
        operation=request.key,
        code=state.code,
        previous=state.last_operation,
        previous_version=state.version,
        accepted_at=0,
        day=FIRST,
        user_id=request.user_id,
        actor="",
        reserved=False,
        number=state.settled + 1,
        previous_number=state.number_at(state.version),
    )


def refuses(state: Coupon, refusal: Request) -> bool:
    """Whether the state gives the reason that the client was told."""
    try:
        ensure_allowed(state, imagined(state, refusal))
    except Refused as refused:
        return refused.reason == refusal.reason
    return False
