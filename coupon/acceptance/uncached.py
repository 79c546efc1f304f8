"""Accepting a command without the cache: slower, for nobody else can know of it before the workers have committed it.

So the coupon is read once the workers have committed everything that was published before. The answer comes from the
store, once they have committed the command itself. The command says that it is not reserved. Then the worker
replaces the coupon's older entry by a claim, for the processes that do reach the cache.
"""

import threading
import time
from collections.abc import Callable

from coupon.acceptance.fences import Fences
from coupon.acceptance.operations import ChangeRef
from coupon.acceptance.reservations import Sleep
from coupon.domain.clock import Clock, monotonic_ms
from coupon.domain.errors import BackendUnavailable, CouponBusy, Refused
from coupon.domain.model import ChangeCoupon, Coupon, Reason
from coupon.domain.protocol import AttemptState, outcome
from coupon.ports.store import Store

TOGETHER_MAX = 4
"""So many requests of a process at a time: each waits for the workers, and holds a thread."""
WAIT_MS = 4_000
"""So long each of the two waits is: a caller gives up after ten seconds."""
PAUSE_S, PAUSE_MAX_S = 0.005, 0.05


class UncachedCommands:
    """Thread-safe."""

    def __init__(
        self,
        store: Store,
        fences: Fences,
        publish: Callable[[ChangeCoupon], None],
        sleep: Sleep = time.sleep,
        timer: Clock = monotonic_ms,
    ) -> None:
        self._store, self._fences, self._publish = store, fences, publish
        self._sleep, self._timer = sleep, timer
        self._places = threading.BoundedSemaphore(TOGETHER_MAX)

    def change(self, code: str, decide: Callable[[Coupon], ChangeCoupon | ChangeRef]) -> ChangeRef:
        """``decide`` makes the command, finds the address of what was accepted before, or refuses. Raises Refused,
        CouponBusy when the workers are too far behind, and BackendUnavailable when the command's outcome is unknown."""
        if not self._places.acquire(blocking=False):
            raise CouponBusy(code)
        try:
            if not self._passed(code):
                raise CouponBusy(code)
            decided = decide(self._read(code))
            if isinstance(decided, ChangeRef):
                return decided
            self._publish(decided)
            return self._outcome(decided)
        finally:
            self._places.release()

    def _outcome(self, command: ChangeCoupon) -> ChangeRef:
        if self._passed(command.code):
            found = outcome(self._read(command.code), command.operation, command.number)
            if found.state is AttemptState.APPLIED:
                return ChangeRef(command.operation, command.number, command.code)
            if found.reason is not None:
                raise Refused(found.reason)
        raise BackendUnavailable("without the cache, the command was not applied in time")

    def _read(self, code: str) -> Coupon:
        coupon = self._store.get_many([code]).get(code)
        if coupon is None:
            raise Refused(Reason.NOT_FOUND)
        return coupon

    def _passed(self, code: str) -> bool:
        """Whether the workers pass in time all that was published for the coupon until now."""
        fence, deadline, pause_s = self._fences.of(code), self._timer() + WAIT_MS, PAUSE_S
        while not self._fences.passed(fence):
            if self._timer() >= deadline:
                return False
            self._sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)
        return True
