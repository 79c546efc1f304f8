"""Mixed traffic: clients that create, issue, use, cancel and cancel uses, retry, send twice, ask and give up."""

import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from coupon.domain.codes import parse
from coupon.domain.model import Day, Kind
from tests.proof.chaos.beliefs import HOLDERS, RETIRED_AFTER, Belief, Hot
from tests.proof.chaos.interface import Answer, Interface
from tests.proof.chaos.records import Records, clock
from tests.proof.record import FIRST, LAST, Observed, Read, Request

HOT_SHARE, CREATION_SHARE, LARGE_SHARE = 0.1, 0.04, 0.01
READ_SHARE, LIST_SHARE, OBSERVE_SHARE, RESEND_SHARE, TWIN_SHARE, WAIT_SHARE = 0.03, 0.03, 0.03, 0.02, 0.02, 0.08
REUSE_SHARE, OTHER_TWIN_SHARE = 0.02, 0.5
"""Keys that are sent again with other words; and how many of the twins have other words."""
GIVE_UP_SHARE = 0.05
"""Of the times that a request was not taken."""
BACK_OFF_S = 0.1, 1.0
OWN_AT_LEAST = 5
CODES_TAKEN = 5
"""Of a creation, however large."""


OTHER_LAST = Day("2099-12-30")
FITTING = {
    Kind.ISSUE: [Kind.USE],
    Kind.USE: [Kind.CANCEL, Kind.CANCEL_USE],
    Kind.CANCEL: [Kind.USE, Kind.CANCEL_USE],
    Kind.CANCEL_USE: [Kind.CANCEL, Kind.USE],
}
"""What may be asked for with the same key."""
NAMES_USER = (Kind.ISSUE, Kind.USE)


class Order(NamedTuple):
    """A command that a client wants to have applied, with the key that it sends it with every time."""

    key: str
    kind: Kind
    code: str = ""
    user_id: str | None = None
    amount: int = 0
    expire_at: Day = LAST

    def body(self) -> dict[str, Any]:
        if self.kind is Kind.CREATE:
            return {"amount": self.amount, "validFrom": FIRST, "expireAt": self.expire_at}
        return {"couponCode": self.code} | ({} if self.user_id is None else {"userId": self.user_id})

    def where(self) -> tuple[str, str]:
        return ("POST", "/v1/coupons") if self.kind is Kind.CREATE else ("PUT", f"/v1/coupons/{self.kind}")

    def with_other_words(self, chance: random.Random, codes: Sequence[str]) -> "Order":
        """Another one, with the same key."""
        if self.kind is Kind.CREATE:
            return self._replace(**chance.choice([{"amount": self.amount + 1}, {"expire_at": OTHER_LAST}]))
        others = [
            self._replace(kind=kind, user_id=self.user_id if kind in NAMES_USER else None)
            for kind in FITTING[self.kind]
        ]
        others += [self._replace(code=code) for code in codes if code != self.code]
        if self.user_id is not None:
            others.append(self._replace(user_id=f"{self.user_id}-too"))
        return chance.choice(others)


def attempt(interface: Interface, records: Records, client: str, order: Order, wait_s: int = 0) -> Request:
    """Send it once, and write down what came of it."""
    answer = interface.ask(*order.where(), order.body(), {"Idempotency-Key": order.key}, wait_s)
    rejected = answer.status == 409 and bool(answer.address)
    asked = (client, order.kind.value, order.key, order.code, order.user_id, order.amount, answer.sent, answer.ended)
    request = Request(
        *asked,
        status=202 if rejected else answer.status,
        reason="" if rejected else answer.code,
        address=answer.address,
        codes=tuple(map(parse, answer.body.get("couponCodes", ()))),
        expire_at=order.expire_at,
    )
    records.write(request)
    if rejected or (answer.status == 200 and wait_s):
        what = ("rejected", answer.code) if rejected else ("applied", "")
        records.write(Observed(answer.address, answer.sent, answer.ended, *what))
    return request


def observe(interface: Interface, records: Records, address: str) -> Answer:
    """Ask an operation's address."""
    answer = interface.ask("GET", f"/v1/operations/{address}?limit=1")
    if answer.status == 200:
        records.write(Observed(address, answer.sent, answer.ended, answer.body["status"], answer.code))
    return answer


class Pace:
    """So many starts a second for all clients together."""

    def __init__(self, rate: float | None) -> None:
        self._gap_s = 1 / rate if rate else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Seconds to wait before the next start."""
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now - 1) + self._gap_s
            return max(self._next - now, 0) if self._gap_s else 0


class Client:
    """One of the clients; runs in a thread of its own until told to stop."""

    def __init__(self, number: int, seed: int, traffic: "Traffic") -> None:
        self._name, self._traffic, self._records = f"client{number}", traffic, traffic.records
        self._chance = random.Random(f"{seed}/{self._name}")
        self._interface = Interface(traffic.ports, self._name, traffic.records)
        self._own: list[Belief] = []
        self._sent: deque[Order] = deque(maxlen=50)
        self._addresses: deque[str] = deque(maxlen=50)
        self._number = 0

    def run(self) -> None:
        try:
            while not self._traffic.stop.wait(self._traffic.pace.take()):
                self._step()
        except Exception as error:
            self._traffic.failures.append(error)
        finally:
            self._interface.close()

    def _step(self) -> None:
        chance = self._chance.random()
        for share, does in (
            (CREATION_SHARE, self._create),
            (READ_SHARE, self._read),
            (LIST_SHARE, self._list),
            (OBSERVE_SHARE, self._observe),
            (RESEND_SHARE, self._resend),
            (REUSE_SHARE, self._reuse),
        ):
            if chance < share:
                return does()
            chance -= share
        return self._change()

    def _create(self) -> None:
        large = self._chance.random() < LARGE_SHARE
        amount = self._chance.randint(600, 1_200) if large else self._chance.randint(1, 5)
        request = self._deliver(Order(self._key(), Kind.CREATE, amount=amount))
        ready = clock() + (0 if request.status == 200 else self._chance.uniform(0, 1.5))
        self._own += [Belief(code, ready) for code in request.codes[:CODES_TAKEN]]

    def _change(self) -> None:
        belief = self._pick()
        if belief is None:
            return self._create() if len(self._own) < OWN_AT_LEAST else time.sleep(0.05)
        kind, user_id = belief.next(self._chance)
        request = self._deliver(Order(self._key(), kind, belief.code, user_id))
        if request.accepted:
            belief.accepted(kind, user_id)
        elif request.status == 404:
            belief.ready = clock() + 1
        else:
            belief.refused(kind, request.reason)
        belief.commands += request.status not in (404, 409)
        return None

    def _pick(self) -> Belief | None:
        self._own = [belief for belief in self._own if belief.commands < RETIRED_AFTER]
        if self._chance.random() < HOT_SHARE:
            return self._traffic.hot.pick(self._chance, self._own)
        if not self._own:
            return None
        belief = self._chance.choice(self._own)
        return belief if belief.ready < clock() else None

    def _read(self) -> None:
        if not self._own:
            return
        code = self._chance.choice(self._own).code
        answer = self._interface.ask("GET", f"/v1/coupons/{code}")
        if answer.status == 200:
            operations = tuple(entry["operationId"].partition("-")[0] for entry in answer.body["history"])
            self._records.write(Read(code, answer.sent, answer.ended, answer.body["version"], operations))

    def _list(self) -> None:
        """The only question that the web side asks search. What it answers is late by design: only that it answers is
        looked at."""
        self._interface.ask("GET", f"/v1/users/{self._chance.choice(HOLDERS)}/coupons?limit=20")

    def _observe(self) -> None:
        if self._addresses:
            observe(self._interface, self._records, self._chance.choice(self._addresses))

    def _resend(self) -> None:
        """An accepted one: the same operation has to be told."""
        if self._sent:
            attempt(self._interface, self._records, self._name, self._chance.choice(self._sent), self._wait_s())

    def _reuse(self) -> None:
        """The key of an accepted one for another request: refused at once, or, whatever is lost, another operation."""
        if self._sent:
            other = self._with_other_words(self._chance.choice(self._sent))
            attempt(self._interface, self._records, self._name, other, self._wait_s())

    def _with_other_words(self, order: Order) -> Order:
        return order.with_other_words(self._chance, [belief.code for belief in self._own])

    def _deliver(self, order: Order) -> Request:
        """Send it until it is answered, or given up."""
        twin = None
        if self._chance.random() < TWIN_SHARE:
            differs = self._chance.random() < OTHER_TWIN_SHARE
            twin = self._traffic.twin(self._with_other_words(order) if differs else order)
        while True:
            request = attempt(self._interface, self._records, self._name, order, self._wait_s())
            if request.status not in (0, 503) or self._chance.random() < GIVE_UP_SHARE:
                break
            if self._traffic.stop.wait(self._chance.uniform(*BACK_OFF_S)):
                break
        if twin is not None:
            twin.result()
        if request.accepted:
            self._records.count_key()
            self._sent.append(order)
            self._addresses.append(request.address)
        return request

    def _wait_s(self) -> int:
        return self._chance.choice([1, 5]) if self._chance.random() < WAIT_SHARE else 0

    def _key(self) -> str:
        self._number += 1
        return f"{self._name}-{self._number}"


class Traffic:
    """``with Traffic(…)``: the clients run inside the block."""

    def __init__(
        self, ports: Sequence[int], records: Records, seed: int, clients: int = 8, rate: float | None = None
    ) -> None:
        self.ports, self.records = ports, records
        self.stop = threading.Event()
        self.hot, self.pace = Hot(), Pace(rate)
        self.failures: list[Exception] = []
        """A client of ours that broke: the run is worth nothing."""
        self._twins = ThreadPoolExecutor(clients, "twin")
        self._twins_interface = Interface(ports, "twin", records, clients)
        self._threads = [threading.Thread(target=Client(number, seed, self).run) for number in range(clients)]

    def twin(self, order: Order) -> Any:
        """The same request, or another one with its key, by somebody else at the same time."""
        return self._twins.submit(attempt, self._twins_interface, self.records, "twin", order)

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()
        self._twins.shutdown()
        self._twins_interface.close()
