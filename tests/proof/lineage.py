"""The verdict on one coupon: its history is one chain, each step asked for, allowed, and in the order of real time.

Every command names the operation and the version that it builds on, so the commands of a coupon make a tree of the
states that were ever promised to somebody. The history is the one branch that won; whatever a client was told must
follow from some state of the tree at the time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from coupon.model import Attempt, Command, Coupon, Entry, Kind, Reason, Refused, Rejection, check, transition
from tests.proof.record import FIRST, Observed, Read, Request

Node = tuple[str, int, int]
"""An operation, the version that it made, and when it was accepted: a state that somebody was promised."""
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

    def violations(self, created: Coupon, stored: Coupon, commands: list[Command]) -> Iterator[Violation]:
        """``created`` is the coupon as its creation makes it, ``commands`` all that the queue holds for it."""
        yield from one_chain(created, stored, commands)
        yield from held_by_one_and_used_once(stored)
        states = dict(tree(created, commands))
        yield from self.rejected_for_a_rival(stored, commands, states)
        for command in commands:
            if made_by(command.attempt) not in states:
                yield Violation("built on what was accepted", f"{command} builds on nothing that the queue holds")
        yield from self.in_the_order_of_real_time(stored)
        yield from self.reads_go_forward(stored)
        yield from self.refusals_follow(states, stored)

    def in_the_order_of_real_time(self, stored: Coupon) -> Iterator[Violation]:
        """What was accepted before another was asked for comes first."""
        latest: tuple[float, str] = (float("-inf"), "")
        for entry in stored.history[1:]:
            asked = self.asked.get(entry.operation, [])
            accepted = [r.ended for r in asked if r.accepted and _accepted_at(r) == entry.at]
            if accepted and min(accepted) < latest[0]:
                yield Violation("in the order of real time", f"{entry} was accepted before {latest[1]} was asked for")
            latest = max(latest, (min((r.sent for r in asked), default=float("-inf")), entry.operation))

    def reads_go_forward(self, stored: Coupon) -> Iterator[Violation]:
        """Every read is a beginning of the history, and no later one knows less."""
        history = tuple(entry.operation for entry in stored.history)
        for read in self.reads:
            if read.operations != history[: read.version]:
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
                if known < until[node] and self.begun(node[0]) <= refusal.ended and _refuses(state, refusal)
            ]
            if not candidates:
                yield Violation("refusals follow", f"{refusal} follows from no state of {stored}")

    def rejected_for_a_rival(
        self, stored: Coupon, commands: list[Command], states: dict[Node, Coupon]
    ) -> Iterator[Violation]:
        """Another operation is in its place of the history, or in the place of one that it was built on; and that was
        asked for before anybody knew of the rejection."""
        by_attempt = {(c.operation, c.previous_version, c.accepted_at): c for c in commands}
        for rejection in stored.rejections:
            command = by_attempt.get((rejection.operation, rejection.version, rejection.at))
            if command is None:
                yield Violation("rejected for a rival only", f"{rejection} is of no command of the queue")
            elif not self._has_rival(rejection, command, stored, states):
                yield Violation("rejected for a rival only", f"{rejection} of {command} in {stored}")
            if any((entry.operation, entry.at) == (rejection.operation, rejection.at) for entry in stored.history):
                yield Violation("one outcome", f"{rejection} was applied too")

    def _has_rival(self, rejection: Rejection, command: Command, stored: Coupon, states: dict[Node, Coupon]) -> bool:
        node = made_by(command.attempt)
        if rejection.reason not in (Reason.RIVAL_WON, Reason.PREDECESSOR_LOST) or node not in states:
            return False
        branch = states[node].history
        place = _where_they_part(branch, stored.history)
        if place is not None:
            return self.begun(stored.history[place].operation) <= self.known_to_be_rejected(command)
        first = len(stored.history)  # nobody is in the place of the branch's next: that one must have lost in turn
        return (
            first < len(branch) - 1 and stored.rejection(branch[first].operation, first, branch[first].at) is not None
        )

    def known_to_be_rejected(self, command: Command) -> float:
        """When a client first knew."""
        wanted = f"-{command.previous_version}-{command.previous_at}-{command.accepted_at}-"
        told = (o for operation, o in self.observed if operation == command.operation and wanted in o.address)
        return min((o.ended for o in told if o.status == "rejected"), default=float("inf"))

    def begun(self, operation: str) -> float:
        """When it was first asked for."""
        return min((request.sent for request in self.asked.get(operation, [])), default=float("inf"))


def one_chain(created: Coupon, stored: Coupon, commands: list[Command]) -> Iterator[Violation]:
    """The stored coupon is what its commands make of it, one after the other, by ``transition``."""
    by_entry: dict[tuple[str, int, int], Command] = {
        (command.operation, command.accepted_at, command.previous_version): command for command in commands
    }
    state = created
    for entry in stored.history[1:]:
        command = by_entry.get((entry.operation, entry.at, state.version))
        if command is None or command.previous != state.last_operation:
            yield Violation("one chain", f"{entry} after {state.last_operation} is no command of the queue: {command}")
            return
        try:
            state = transition(state, command)
        except Refused as refused:
            yield Violation("one chain", f"{command} was applied to {state}, which refuses it: {refused}")
            return
    if state != stored._replace(revision=state.revision, rejections=()):
        yield Violation("the store equals the fold", f"{stored} should be {state}")


def held_by_one_and_used_once(stored: Coupon) -> Iterator[Violation]:
    """From the history's words alone, whatever ``transition`` says."""
    for kind, undone in ONCE.items():
        steps = [entry for entry in stored.history if entry.kind in (kind, undone)]
        expected = [kind, undone] * len(steps)
        if [entry.kind for entry in steps] != expected[: len(steps)]:
            yield Violation("one winner", f"{stored.code}: {[str(entry.kind) for entry in stored.history]}")


def as_the_queue_has_it(created: Coupon, stored: Coupon, commands: Iterable[Command]) -> Iterator[Violation]:
    """Where the queue keeps the order, it alone decides: each command, in its turn, either builds on the last one that
    won, or has lost for good."""
    won, lost = [(created.last_operation, created.created_at)], set()
    for command in commands:
        if command.operation in {operation for operation, _ in won} or made_by(command.attempt) in lost:
            continue
        if (command.previous_version, command.previous) == (len(won), won[-1][0]):
            won.append((command.operation, command.accepted_at))
        else:
            lost.add(made_by(command.attempt))
    if won != [(entry.operation, entry.at) for entry in stored.history]:
        yield Violation("as the queue has it", f"{won} should be the history of {stored}")
    if lost != {(r.operation, r.version + 1, r.at) for r in stored.rejections}:
        yield Violation("as the queue has it", f"{lost} should be the rejections of {stored}")


def tree(created: Coupon, commands: Iterable[Command]) -> Iterator[tuple[Node, Coupon]]:
    """Every state that a client was ever promised, by the operation that made it and its version."""
    states = {(created.last_operation, 1, created.created_at): created}
    for command in sorted(commands, key=lambda command: command.previous_version):
        before = states.get(built_on(command.attempt))
        if before is None:
            continue
        try:
            states[made_by(command.attempt)] = transition(before, command)
        except Refused:
            continue
    yield from states.items()


def past(states: dict[Node, Coupon], stored: Coupon) -> Iterator[tuple[Node, int]]:
    """The version of the store from which on the state is certainly past: of a state of the history the next one; of
    a state of a branch that lost, the version where that branch left the history."""
    for node, state in states.items():
        left = _where_they_part(state.history, stored.history)
        yield node, node[1] + 1 if left is None else left + 1


def _where_they_part(branch: tuple[Entry, ...], history: tuple[Entry, ...]) -> int | None:
    """The place of the first entry that is of another operation."""
    pairs = enumerate(zip(branch, history, strict=False))
    return next((place for place, (one, other) in pairs if one.operation != other.operation), None)


def made_by(attempt: Attempt) -> Node:
    return attempt.operation, attempt.previous_version + 1, attempt.at


def built_on(attempt: Attempt) -> Node:
    return attempt.previous, attempt.previous_version, attempt.previous_at


def is_settled(coupon: Coupon, command: Command) -> bool:
    """Whether the coupon tells what became of it. An operation that happened is settled with all of its attempts."""
    return any(entry.operation == command.operation for entry in coupon.history) or is_rejected(coupon, command.attempt)


def is_rejected(coupon: Coupon, attempt: Attempt) -> bool:
    wanted = (attempt.operation, attempt.previous_version, attempt.at)
    return any((r.operation, r.version, r.at) == wanted for r in coupon.rejections)


def _accepted_at(request: Request) -> int:
    """When the attempt that it was given the address of was accepted (ms)."""
    return int(request.address.split("-")[-3])


def _refuses(state: Coupon, refusal: Request) -> bool:
    kind, previous = Kind(refusal.kind), state.last_operation
    command = Command(kind, "", state.code, previous, state.version, 0, 0, FIRST, refusal.user_id, "", False)
    try:
        check(state, command)
    except Refused as refused:
        return refused.reason == refusal.reason
    return False
