"""The verdict on a run: which promises the records of it break.

Three records that know nothing of each other are compared: what the clients saw, what the queue holds, and what the
store holds. Search and the cache are compared with the store. What is checked of a single coupon is in ``lineage.py``.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import cast

from coupon.acceptance.creation_progress import CreationProgress
from coupon.acceptance.operations import ChangeRef, CreationRef, Operations
from coupon.domain.chunks import codes_of
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import UnknownAddress
from coupon.domain.model import ChangeCoupon, Coupon, CreateCoupons, Reason, create
from coupon.domain.serialization import document
from coupon.ports.store import Store
from tests.proof.keys import key_violations, words_of
from tests.proof.lineage import Lineage, Violation, as_the_queue_has_it, is_settled, made_by
from tests.proof.losers import Losers, contradictions, unknown_to_the_cache
from tests.proof.outcomes import outcomes_never_flip
from tests.proof.record import CALLER, FIRST, Evidence, Observed, Request

__all__ = ["NOT_YET_KEPT", "Violation", "violations"]
NOT_YET_KEPT: frozenset[str] = frozenset()
"""Promises that the service does not keep yet: only with ``--all``. What is mended comes out of here."""


def violations(evidence: Evidence, *, everything: bool = False) -> list[Violation]:
    """Empty when all promises of ``docs/reliability.md`` held; ``everything``: also those that are not kept yet."""
    return [found for found in Judge(evidence).all() if everything or found.promise not in NOT_YET_KEPT]


TOLD_LATER = {Reason.RIVAL_WON, Reason.PREDECESSOR_LOST, Reason.IDEMPOTENCY_KEY_REUSED}
"""Reasons of the worker's: who waits for its verdict is told at once."""


class Judge:
    """The evidence, sorted by operation and by coupon."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.code_deriver = CodeDeriver(evidence.secret)
        self.operations = Operations(
            self.code_deriver, cast(Store, None), cast(CreationProgress, None)
        )  # to parse addresses takes no store
        self.parse = cache(self.operations.parse)
        self.asked: dict[str, list[Request]] = {}
        for request in evidence.requests:
            self.asked.setdefault(self.operation(request), []).append(request)
        self.commands: dict[str, dict[ChangeCoupon, None]] = {}
        """By code, each once, in the order of the queue."""
        self.creations: dict[str, dict[int, CreateCoupons]] = {}
        """By the code of each coupon that was to be created, and by when that was accepted (retries are later)."""
        for command in dict.fromkeys(evidence.commands):
            if isinstance(command, ChangeCoupon):
                self.commands.setdefault(command.code, {})[command] = None
            else:
                for code in codes_of(command, self.code_deriver):
                    self.creations.setdefault(code, {})[command.accepted_at] = command
        self.by_code = self._sort_by_code()

    def operation(self, request: Request) -> str:
        """What its caller, its key and its words make of it."""
        kind, code, user_id, amount, expire_at = request.words
        words = (kind, amount, FIRST, expire_at) if kind == "create" else (kind, code, user_id or "")
        return self.code_deriver.operation(CALLER, request.key, "\0".join(map(str, words)))

    def all(self) -> Iterator[Violation]:
        yield from self.commands_were_asked_for()
        yield from key_violations(self.evidence, self.code_deriver, self.parse)
        yield from outcomes_never_flip(self.evidence.observed, self.was_applied_by_another)
        yield from self.accepted_came_to_an_end()
        yield from self.answers_told_of_what_is()
        yield from self.commands_were_settled()
        yield from self.nothing_happened_twice()
        for code, coupon in self.evidence.coupons.items():
            yield from self.lineage(code, coupon)
        yield from self.search_equals_the_store()
        yield from self.the_cache_is_not_ahead()
        for reason in self.evidence.dead_letters:
            yield Violation("no dead letters", reason)

    def commands_were_asked_for(self) -> Iterator[Violation]:
        """Nothing comes from nowhere: a client asked for each command, in these very words, and was not told no."""
        for command in set(self.evidence.commands):
            words = words_of(command)
            asked = [request for request in self.asked.get(command.operation, []) if request.words == words]
            if not asked:
                yield Violation("nothing from nowhere", f"{command} was never asked for")
            elif all(request.refused and request.reason not in TOLD_LATER for request in asked):
                yield Violation("no is no", f"{command} is in the queue, and the answers were {asked}")

    def accepted_came_to_an_end(self) -> Iterator[Violation]:
        """Every 202 has its operation in the queue, and one outcome."""
        for request in filter(lambda r: r.accepted, self.evidence.requests):
            try:
                address = self.parse(request.address)
            except UnknownAddress:
                yield Violation("one outcome", f"{request} has an address that is none")
                continue
            if address.operation != self.operation(request):
                yield Violation("one outcome", f"{request} was given another operation's address")
            elif isinstance(address, ChangeRef):
                yield from self.change_came_to_an_end(address)
            else:
                yield from self.creation_came_to_an_end(address, request)

    def change_came_to_an_end(self, address: ChangeRef) -> Iterator[Violation]:
        attempt = address.operation, address.number
        command = next((c for c in self.commands.get(address.code, ()) if made_by(c) == attempt), None)
        coupon = self.evidence.coupons.get(address.code)
        if command is None:
            yield Violation("nothing accepted is lost", f"{address} was accepted and is not in the queue")
        elif coupon is None or not is_settled(coupon, *attempt):
            yield Violation("one outcome", f"{address} was accepted, and is open in {coupon}")

    def creation_came_to_an_end(self, address: CreationRef, request: Request) -> Iterator[Violation]:
        codes = list(self.code_deriver.codes(address.operation, 0, address.amount))
        missing = [code for code in codes if code not in self.evidence.coupons]
        if missing:
            yield Violation("nothing accepted is lost", f"{len(missing)} coupons of {address} were never created")
        if request.codes and list(request.codes) != codes:
            yield Violation("one outcome", f"{request} was told other codes than {codes}")

    def answers_told_of_what_is(self) -> Iterator[Violation]:
        """A terminal outcome that a client once saw is the outcome for good."""
        for observed in self.evidence.observed:
            address = self.parse(observed.address)
            coupon = self.evidence.coupons.get(address.code) if isinstance(address, ChangeRef) else None
            if coupon is None or not isinstance(address, ChangeRef) or observed.status == "accepted":
                continue
            numbers = [entry.number for entry in coupon.history if entry.operation == address.operation]
            if observed.status == "rejected":
                holds = address.number not in numbers and is_settled(coupon, address.operation, address.number)
            else:
                holds = bool(numbers) or observed.status == "forgotten"
            if not holds:
                yield Violation("outcomes are for good", f"{observed} was seen, and the coupon is {coupon}")

    def was_applied_by_another(self, text: str) -> bool:
        """Whether the operation happened, but not as the attempt that the address is of."""
        address = self.parse(text)
        coupon = self.evidence.coupons.get(address.code) if isinstance(address, ChangeRef) else None
        if coupon is None or not isinstance(address, ChangeRef):
            return False
        numbers = [entry.number for entry in coupon.history if entry.operation == address.operation]
        return bool(numbers) and address.number not in numbers

    def commands_were_settled(self) -> Iterator[Violation]:
        """Whether a client knows of it or not: what is in the queue was applied or rejected."""
        for code, commands in self.commands.items():
            coupon = self.evidence.coupons.get(code)
            for command in commands:
                if coupon is None or not is_settled(coupon, *made_by(command)):
                    yield Violation("every command is settled", f"{command} is not settled in {coupon}")
        for code in self.creations.keys() - self.evidence.coupons.keys():
            yield Violation("every command is settled", f"{code} of {self.creations[code]} was not created")

    def nothing_happened_twice(self) -> Iterator[Violation]:
        """No operation but a creation is in the history of two coupons, or twice in one."""
        changes = Counter(
            entry.operation
            for coupon in self.evidence.coupons.values()
            for entry in coupon.history
            if entry.kind != "create"
        )
        for operation, times in changes.items():
            if times > 1:
                yield Violation("nothing happens twice", f"{operation} was applied {times} times")

    def lineage(self, code: str, coupon: Coupon) -> Iterator[Violation]:
        creation = self.creations.get(code, {}).get(coupon.created_at)
        if creation is None:
            yield Violation("nothing from nowhere", f"{code} was not created by any command")
            return
        if not coupon.history or coupon.version != len(coupon.history):
            yield Violation("the checker sees whole histories", f"{code} has {coupon.version} versions")
            return
        lineage = self.by_code.get(code) or Lineage({}, [], [], [], [])
        commands = list(self.commands.get(code, ()))
        created = create(creation, code)
        yield from lineage.violations(created, coupon, commands)
        unknown = unknown_to_the_cache(code, commands, self.evidence.owed_to_the_cache)
        yield from self.losers(lineage, commands, unknown).violations(coupon)
        until = min((r.sent for operation in unknown for r in lineage.asked.get(operation, ())), default=float("inf"))
        asked = (request for requests in lineage.asked.values() for request in requests if request.code)
        yield from contradictions(created, asked, until)
        if self.evidence.ordered:
            ahead = self.evidence.ahead
            yield from as_the_queue_has_it(
                created, coupon, commands, self.evidence.remembered, lambda node: ahead is None or node in ahead
            )

    def losers(self, lineage: Lineage, commands: list[ChangeCoupon], unknown: set[str]) -> Losers:
        def address(command: ChangeCoupon) -> str:
            return self.operations.address(ChangeRef(command.operation, command.number, command.code))

        seen = self.evidence
        return Losers(lineage.asked, commands, seen.landed, seen.applied, seen.holds, unknown, address)

    def _sort_by_code(self) -> dict[str, Lineage]:
        """What the clients saw of each coupon."""
        by_code: dict[str, Lineage] = {}

        def of(code: str) -> Lineage:
            return by_code.setdefault(code, Lineage({}, [], [], [], []))

        for operation, requests in self.asked.items():
            for request in requests:
                codes = [request.code] if request.code else self.code_deriver.codes(operation, 0, request.amount)
                for code in codes:
                    of(code).asked.setdefault(operation, []).append(request)
        for read in self.evidence.reads:
            of(read.code).reads.append(read)
        for request in self.evidence.requests:
            if request.code and request.status in (404, 409):
                late = request.reason in TOLD_LATER
                (of(request.code).lost if late else of(request.code).refusals).append(request)
        for observed in self.evidence.observed:
            for code in self._codes_at(observed):
                of(code).observed.append((self.parse(observed.address).operation, observed))
        return by_code

    def _codes_at(self, observed: Observed) -> Iterable[str]:
        match self.parse(observed.address):
            case ChangeRef(_, code):
                return [code]
            case CreationRef(operation, amount):
                return self.code_deriver.codes(operation, 0, amount) if observed.status == "applied" else []
        return []

    def search_equals_the_store(self) -> Iterator[Violation]:
        documents = self.evidence.documents
        for code, coupon in self.evidence.coupons.items():
            if documents.get(code) != document(coupon):
                yield Violation("search equals the store", f"{documents.get(code)} stands for {coupon}")
        for code in documents.keys() - self.evidence.coupons.keys():
            yield Violation("search equals the store", f"{documents[code]} stands for no coupon")

    def the_cache_is_not_ahead(self) -> Iterator[Violation]:
        """What it holds as accepted was applied, at whatever time.

        A retry may be accepted while the first attempt, of which nobody knew, is on its way. Then the store has the
        time of the first one, and the cache that of the other.
        """
        for code, cached in self.evidence.cached.items():
            stored = self.evidence.coupons.get(code)
            first = cached.version - len(cached.history)
            if stored is None or _deeds(cached) != _deeds(stored)[first : cached.version]:
                yield Violation("the cache is not ahead", f"{cached} is in the cache, and in the store {stored}")


def _deeds(coupon: Coupon) -> list[tuple[str, str, str | None]]:
    return [(entry.operation, entry.kind, entry.user_id) for entry in coupon.history]
