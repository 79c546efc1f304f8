"""Simulated clients, and the web side that answers them: what HTTP would carry, without HTTP."""

from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from coupon.model import Coupon, Kind, Reason, Refused
from coupon.operations import Forgotten
from coupon.ports.backend import BackendUnavailable
from coupon.reservations import Busy
from coupon.service import Caller, CommandService, IdempotencyKeyReused
from tests.proof.record import CALLER, FIRST, LAST, Evidence, Observed, Read, Request
from tests.proof.simulation.process import Process
from tests.proof.simulation.scheduler import Scheduler

if TYPE_CHECKING:
    from tests.proof.simulation.world import World

PATIENCE_MS = 10_000
"""A client gives up after so long without an answer."""
TRIES = 6
KINDS = (Kind.ISSUE, Kind.ISSUE, Kind.USE, Kind.USE, Kind.CANCEL, Kind.CANCEL_USE)


class Answer(NamedTuple):
    """As HTTP would carry it."""

    status: int
    reason: str = ""
    address: str = ""
    codes: tuple[str, ...] = ()


class Asked(NamedTuple):
    """What a client wants, whatever number of requests it takes."""

    kind: Kind
    key: str
    code: str = ""
    user_id: str | None = None
    amount: int = 0


class Web:
    """A web process; each request is a task of it."""

    def __init__(self, process: Process, service: CommandService) -> None:
        self.process, self.service = process, service

    def answer(self, asked: Asked) -> Answer:
        try:
            return self._accepted(asked)
        except Refused as refused:
            return Answer(404 if refused.reason is Reason.NOT_FOUND else 409, refused.reason)
        except (Busy, BackendUnavailable):
            return Answer(503)
        except IdempotencyKeyReused:
            return Answer(422)

    def _accepted(self, asked: Asked) -> Answer:
        caller = Caller(CALLER, asked.key)
        if asked.kind is not Kind.CREATE:
            change = self.service.change(asked.kind, asked.code, asked.user_id, caller)
            return Answer(202, address=self.service.operations.address(change))
        creation = self.service.create(asked.amount, FIRST, LAST, caller)
        codes = tuple(self.service.codes(creation, 0, asked.amount))
        return Answer(202, address=self.service.operations.address(creation), codes=codes)

    def outcome(self, address: str) -> tuple[str, str] | None:
        """None when it cannot be told now."""
        try:
            outcome = self.service.operations.outcome(self.service.operations.parse(address))
        except (BackendUnavailable, Forgotten):
            return None
        return outcome.status, outcome.reason or ""

    def coupon(self, code: str) -> Coupon | None:
        try:
            return self.process.backends.store.get_many([code]).get(code)
        except BackendUnavailable:
            return None


class Client:
    """Asks, waits, tries again with the same key, and writes down what it saw."""

    def __init__(self, name: str, world: "World", records: Evidence) -> None:
        self.name, self.world, self.records = name, world, records
        self.scheduler: Scheduler = world.scheduler
        self.random: Random = world.random
        self.mine: list[Asked] = []
        self.addresses: list[str] = []

    def live(self) -> None:
        self._create()
        for number in range(self.random.choice((3, 6, 12))):
            self.scheduler.sleep(self.random.choice(self.world.pauses_ms))
            match self.random.random():
                case draw if draw < 0.15:
                    self._observe()
                case draw if draw < 0.3:
                    self._read()
                case draw if draw < 0.4 and self.mine:
                    self._ask(self.random.choice(self.mine))
                case _:
                    self._change(number)

    def touch_all(self, coupons: Iterable[Coupon]) -> list[Request]:
        """A command that its state allows, to each; the answers."""
        return [
            self._send(Asked(_allowed(coupon)[0], f"{self.name}/{coupon.code}", coupon.code, _user(coupon, self.name)))
            for coupon in coupons
        ]

    def _create(self) -> None:
        amount = self.random.choice((1, 1, 2, 3)) if self.random.random() < 0.98 else 501
        asked = Asked(Kind.CREATE, f"{self.name}/new", amount=amount)
        answer = self._ask(asked)
        if answer is not None:
            self.world.codes += answer.codes[:3]
            self.scheduler.sleep(self.random.choice((0, 1_000, 5_000)))

    def _change(self, number: int) -> None:
        if not self.world.codes:
            return
        code = self.random.choice(self.world.codes)
        stored = self.world.backends.store.get_many([code]).get(code)  # mostly what should work, sometimes not
        kind = self.random.choice(_allowed(stored) if stored and self.random.random() < 0.6 else KINDS)
        user_id = self.name if kind is Kind.ISSUE else self.random.choice((None, self.name))
        if kind in (Kind.CANCEL, Kind.CANCEL_USE):
            user_id = None
        asked = Asked(kind, f"{self.name}/{number}", code, user_id)
        self.mine.append(asked)
        self._ask(asked)
        if self.random.random() < 0.05:  # somebody else has the same key by now
            self.random.choice(self.world.clients).mine.append(asked)

    def _ask(self, asked: Asked) -> Request | None:
        """Until it is answered, or the client has had enough; the answer when it was accepted."""
        for _ in range(self.random.randint(1, TRIES)):
            request = self._send(asked)
            if request.accepted:
                self.addresses.append(request.address)
                return request
            if request.status not in (0, 503):
                return None
            self.scheduler.sleep(self.random.choice((10, 100, 1_000, 10_000)))
        return None

    def _send(self, asked: Asked) -> Request:
        web, sent = self.random.choice(self.world.webs), self.scheduler.now
        task = web.process.spawn(asked.key, lambda: web.answer(asked))
        self.scheduler.wait_for(task, PATIENCE_MS)
        if task.error is not None:
            raise task.error
        answer = task.answer or Answer(0)
        request = Request(self.name, *asked_words(asked), sent, self.scheduler.now, *answer)
        self.records.requests.append(request)
        return request

    def _observe(self) -> None:
        if not self.addresses:
            return
        address, sent = self.random.choice(self.addresses), self.scheduler.now
        web = self.random.choice(self.world.webs)
        task = web.process.spawn("observe", lambda: web.outcome(address))
        self.scheduler.wait_for(task, PATIENCE_MS)
        if task.answer is not None:
            self.records.observed.append(Observed(address, sent, self.scheduler.now, *task.answer))

    def _read(self) -> None:
        if not self.world.codes:
            return
        code, sent = self.random.choice(self.world.codes), self.scheduler.now
        web = self.random.choice(self.world.webs)
        task = web.process.spawn("read", lambda: web.coupon(code))
        self.scheduler.wait_for(task, PATIENCE_MS)
        if isinstance(task.answer, Coupon):
            operations = tuple(entry.operation for entry in task.answer.history)
            self.records.reads.append(Read(code, sent, self.scheduler.now, task.answer.version, operations))


def asked_words(asked: Asked) -> tuple[str, str, str, str | None, int]:
    return asked.kind, asked.key, asked.code, asked.user_id, asked.amount


def _allowed(coupon: Coupon) -> tuple[Kind, ...]:
    if coupon.used:
        return (Kind.CANCEL_USE,)
    return (Kind.USE, Kind.CANCEL) if coupon.issued else (Kind.ISSUE,)


def _user(coupon: Coupon, name: str) -> str | None:
    return None if coupon.issued else name
