"""Asks all the time whether commands are accepted and applied: so the time to recover from each fault is known.

Whether they were applied is read from the store itself: what lies between it and us is not what is measured.
"""

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from coupon.domain.errors import BackendError
from coupon.domain.model import Kind
from coupon.ports.store import Store
from tests.proof.chaos.beliefs import RETIRED_AFTER, Belief
from tests.proof.chaos.interface import Interface
from tests.proof.chaos.records import Injected, Probed, Records, clock
from tests.proof.chaos.traffic import Order, attempt
from tests.proof.record import Request

SENDERS, PAUSE_S, LOOK_S = 3, 0.3, 0.1
FORGET_S = 120.0


class Recovery(NamedTuple):
    """Seconds from the end of a fault until a command was accepted, and until one was applied."""

    accepted_s: float | None
    applied_s: float | None


def recovery(fault: Injected, every: Iterable[Probed]) -> Recovery:
    """After the fault, whatever other faults there were meanwhile."""
    since = [probed for probed in every if probed.sent >= fault.ended]
    accepted = min((probed.accepted for probed in since), default=None)
    applied = min((probed.applied for probed in since if probed.applied is not None), default=None)
    return Recovery(accepted and accepted - fault.ended, applied and applied - fault.ended)


class Probe:
    """``with Probe(…)``: it asks inside the block."""

    def __init__(self, ports: Sequence[int], records: Records, store: Store) -> None:
        self._records, self._store = records, store
        self._interface = Interface(ports, "probe", records, SENDERS)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._watched: dict[str, Request] = {}
        """By operation."""
        self.probed: list[Probed] = []
        self.failures: list[Exception] = []
        self._threads = [threading.Thread(target=self._guarded, args=(self._send, n)) for n in range(SENDERS)]
        self._threads.append(threading.Thread(target=self._guarded, args=(self._watch, 0)))

    def __enter__(self) -> "Probe":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._interface.close()

    def _guarded(self, work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except Exception as error:
            self.failures.append(error)

    def _send(self, number: int) -> None:
        """Issues and cancels coupons of its own in turn."""
        name, sent, own = f"probe{number}", 0, list[Belief]()
        while not self._stop.wait(PAUSE_S * random.uniform(0.5, 1.5)):
            sent += 1
            own = [belief for belief in own if belief.commands < RETIRED_AFTER]
            if not own:
                order = Order(f"{name}-{sent}", Kind.CREATE, amount=5)
                request = attempt(self._interface, self._records, name, order, wait_s=3)
                own = [Belief(code, clock()) for code in request.codes]
                continue
            belief = own[sent % len(own)]
            kind, user_id = (Kind.ISSUE, name) if belief.state == "created" else (Kind.CANCEL, None)
            request = attempt(self._interface, self._records, name, Order(f"{name}-{sent}", kind, belief.code, user_id))
            if request.accepted:
                belief.accepted(kind, user_id)
                with self._lock:
                    self._watched[request.address.partition("-")[0]] = request
            elif request.status == 409:
                belief.refused(kind, request.reason)
            belief.commands += request.status not in (404, 409)

    def _watch(self, _: int) -> None:
        while not self._stop.wait(LOOK_S):
            with self._lock:
                watched = dict(self._watched)
            try:
                coupons = self._store.get_many({request.code for request in watched.values()})
            except BackendError:
                continue
            now = clock()
            for operation, request in watched.items():
                coupon = coupons.get(request.code)
                if coupon is not None and coupon.entry(operation) is not None:
                    self._settle(operation, Probed(request.sent, request.ended, now))
                elif now - request.ended > FORGET_S:
                    self._settle(operation, Probed(request.sent, request.ended, None))
        with self._lock:
            left = list(self._watched.items())
        for operation, request in left:
            self._settle(operation, Probed(request.sent, request.ended, None))

    def _settle(self, operation: str, probed: Probed) -> None:
        with self._lock:
            del self._watched[operation]
            self.probed.append(probed)
        self._records.probe(probed)
