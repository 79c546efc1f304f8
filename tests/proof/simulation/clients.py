"""Simulated clients, and the web side that answers them: what HTTP would carry, without HTTP."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from coupon.acceptance.operations import Operations, Status
from coupon.acceptance.requests import Caller
from coupon.acceptance.service import CommandService
from coupon.domain.errors import BackendUnavailable, CouponBusy, IdempotencyKeyReused, OutcomeExpired, Refused
from coupon.domain.model import Coupon, Day, Kind, Reason
from tests.proof.record import CALLER, FIRST, LAST, Evidence, Observed, Read, Request
from tests.proof.simulation.faults import Fault
from tests.proof.simulation.process import Process
from tests.proof.simulation.scheduler import Scheduler

if TYPE_CHECKING:
    from tests.proof.simulation.world import World

PATIENCE_MS = 10_000
"""A client gives up after so long without an answer."""
TRIES, TRIES_ALONE = 6, 25
WANTED = 2
"""Coupons, where there are rivals."""
SOON_S = 30
"""When all is well again, every coupon is within so long."""
OTHER_LAST = Day("2099-12-30")
KINDS = (Kind.ISSUE, Kind.ISSUE, Kind.USE, Kind.USE, Kind.CANCEL, Kind.CANCEL_USE)
AFTER = {
    Kind.CREATE: (Kind.ISSUE,),
    Kind.ISSUE: (Kind.USE, Kind.CANCEL),
    Kind.USE: (Kind.CANCEL_USE,),
    Kind.CANCEL: (Kind.ISSUE,),
    Kind.CANCEL_USE: (Kind.USE, Kind.CANCEL),
}
"""What should work after it."""


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
    expire_at: Day = LAST
    waits: bool = False


class Web:
    """A web process; each request is a task of it."""

    def __init__(self, process: Process, service: CommandService) -> None:
        self.process, self.service = process, service

    def answer(self, asked: Asked) -> Answer:
        try:
            return self._accepted(asked)
        except Refused as refused:
            return Answer(404 if refused.reason is Reason.NOT_FOUND else 409, refused.reason)
        except (CouponBusy, BackendUnavailable):
            return Answer(503)
        except IdempotencyKeyReused:
            return Answer(422)

    def _accepted(self, asked: Asked) -> Answer:
        caller = Caller(CALLER, asked.key)
        if asked.kind is not Kind.CREATE:
            return self._changed(asked, caller)
        creation = self.service.create(asked.amount, FIRST, asked.expire_at, caller)
        codes = tuple(self.service.codes(creation, 0, asked.amount))
        return Answer(202, address=self.service.operations.address(creation), codes=codes)

    def _changed(self, asked: Asked, caller: Caller) -> Answer:
        """The answer that tells of a rejection has 202 and a reason."""
        change = (asked.kind, asked.code, asked.user_id, caller)
        if not asked.waits:
            return Answer(202, address=self.service.operations.address(self.service.change(*change)))
        accepted = self.service.accept(*change)
        outcome = self.service.apply_now(accepted)
        status = 200 if outcome.status is Status.APPLIED else 202
        return Answer(status, outcome.reason or "", self.service.operations.address(accepted.ref))

    def outcome(self, address: str) -> tuple[str, str] | None:
        """None when it cannot be told now."""
        return outcome_of(self.service.operations, address)

    def coupon(self, code: str) -> Coupon | None:
        try:
            return self.process.backends.store.get_many([code]).get(code)
        except BackendUnavailable:
            return None


def outcome_of(operations: Operations, address: str) -> tuple[str, str] | None:
    """As the interface tells it; None when it cannot be told now."""
    try:
        outcome = operations.outcome(operations.parse(address))
    except BackendUnavailable:
        return None
    except OutcomeExpired:
        return "forgotten", ""
    return outcome.status, outcome.reason or ""


class Client:
    """Asks, waits, tries again with the same key, and writes down what it saw.

    One that is ``alone`` uses coupons of its own only, and goes on to the next command only when it has an answer.
    When none comes for long, it gives up.
    """

    def __init__(self, name: str, world: "World", records: Evidence) -> None:
        self.name, self.world, self.records = name, world, records
        self.scheduler: Scheduler = world.scheduler
        self.random: Random = world.random
        self.alone = world.alone
        self.codes: list[str] = [] if self.alone else world.codes
        self.had_enough = False
        self.mine: list[Asked] = []
        self.addresses: list[str] = []
        self.believed: dict[str, Kind] = {}
        """The last change of a coupon that it was told yes for."""

    def live(self) -> None:
        self._create()
        for number in range(self.random.choice((3, 6, 12)) * (3 if self.world.has_rival else 1)):
            if self.had_enough:
                return
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
        """A command that its state allows, to each; the answers. They may take a while: who died left reservations."""
        asked = [
            Asked(_allowed(coupon)[0], f"{self.name}/{coupon.code}", coupon.code, _user(coupon, self.name))
            for coupon in coupons
        ]
        answers = list(map(self._send, asked))
        for _ in range(SOON_S):
            if all(each.status != 503 for each in answers):
                break
            self.scheduler.sleep(1_000)
            answers = [
                self._send(one) if each.status == 503 else each for one, each in zip(asked, answers, strict=True)
            ]
        return answers

    def _create(self) -> None:
        amount = self.random.choice((1, 1, 2, 3)) if self.random.random() < 0.98 else 501
        asked = Asked(Kind.CREATE, f"{self.name}/new", amount=amount)
        answer = self._ask_in_a_race(asked)
        if answer is not None:
            new = answer.codes[: 1 if self.alone else 3]
            self.codes += new
            if self.alone:
                self.world.codes += new
            self.scheduler.sleep(self.random.choice((0, 1_000, 5_000)))
        self._ask_with_other_words(asked)

    def _change(self, number: int) -> None:
        if not self.codes:
            return
        code = self.random.choice(self.codes[:WANTED] if self.world.has_rival else self.codes)
        kind = self.random.choice(self._should_work(code) if self.random.random() < 0.6 else KINDS)
        asked = Asked(kind, f"{self.name}/{number}", code, self._user(kind))
        self.mine.append(asked)
        self._ask_in_a_race(asked)
        if not self.alone and self.random.random() < 0.05:  # somebody else has the same key by now
            self.random.choice(self.world.clients).mine.append(asked)
        self._ask_with_other_words(asked)

    def _should_work(self, code: str) -> Sequence[Kind]:
        if self.alone:
            return AFTER[self.believed.get(code, Kind.CREATE)]
        stored = self.world.backends.store.get_many([code]).get(code)
        return _allowed(stored) if stored else KINDS

    def _user(self, kind: Kind) -> str | None:
        if kind in (Kind.CANCEL, Kind.CANCEL_USE):
            return None
        return self.name if kind is Kind.ISSUE else self.random.choice((None, self.name))

    def _ask_with_other_words(self, asked: Asked) -> None:
        """Sometimes, with the key of what was asked: now, or when the cache may have been lost meanwhile."""
        if not self.world.faults.strikes(Fault.REUSE, harsh=False):
            return
        other = self._other_words(asked)
        if self.random.random() < 0.3:
            self.mine.append(other)
        else:
            self._ask(other)

    def _ask_in_a_race(self, asked: Asked) -> Request | None:
        """Sometimes another request with the key is on its way at the same time."""
        if self.alone or not self.world.faults.strikes(Fault.RACE, harsh=False):
            return self._ask(asked)
        other = self._other_words(asked)
        rival = self.scheduler.spawn(f"{self.name}'s rival", lambda: self._ask(other))
        answer = self._ask(asked)
        self.scheduler.wait_for(rival, 10 * PATIENCE_MS)
        return answer

    def _other_words(self, asked: Asked) -> Asked:
        if asked.kind is Kind.CREATE:
            return self.random.choice((asked._replace(amount=asked.amount + 1), asked._replace(expire_at=OTHER_LAST)))
        kind = self.random.choice([kind for kind in KINDS if kind is not asked.kind])
        user_id = asked.user_id if asked.kind is Kind.ISSUE and asked.user_id is None else f"{self.name} too"
        others = [
            asked._replace(kind=kind, user_id=self._user(kind)),
            *(asked._replace(code=code) for code in self.codes if code != asked.code),
            *([asked._replace(user_id=user_id)] if asked.kind in (Kind.ISSUE, Kind.USE) else []),
        ]
        return self.random.choice(others)

    def _ask(self, asked: Asked) -> Request | None:
        """Until it is answered, or the client has had enough; the answer when it was accepted."""
        for _ in range(TRIES_ALONE if self.alone else self.random.randint(1, TRIES)):
            request = self._send(asked)
            if request.accepted:
                self.addresses.append(request.address)
                self.world.accepted.append(request)
                if asked.code and request.address not in self.addresses[:-1]:
                    self.believed[asked.code] = asked.kind
                return request
            if request.status not in ((0, 404, 503) if self.alone else (0, 503)):
                return None
            self.scheduler.sleep(self.random.choice((10, 100, 1_000, 10_000)))
        self.had_enough = self.alone
        return None

    def _send(self, asked: Asked) -> Request:
        web, sent = self.random.choice(self.world.webs), self.scheduler.now
        waits = self.world.waits.random() < self.world.share_of_waits
        task = web.process.spawn(asked.key, lambda: web.answer(asked._replace(waits=waits)))
        self.scheduler.wait_for(task, PATIENCE_MS)
        if task.error is not None:
            raise task.error
        answer = task.answer or Answer(0)
        if answer.reason and answer.address:
            self.records.observed.append(
                Observed(answer.address, sent, self.scheduler.now, Status.REJECTED, answer.reason)
            )
            answer = answer._replace(reason="")
        request = Request(self.name, *asked_words(asked), sent, self.scheduler.now, *answer, asked.expire_at)
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
        if not self.codes:
            return
        code, sent = self.random.choice(self.codes), self.scheduler.now
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
