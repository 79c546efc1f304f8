"""Applying a command at once, in the web process that accepted it, because its caller waits for the outcome.

A worker would poll it, and the caller would ask the store again and again until then. Here one trip to the store serves
all commands of a process that are awaited at the moment. The worker finds them applied, and does what is left: it
indexes the coupon, records what lost, and commits (decision 25).

The rules are those of the worker. The command is in the queue, its reservation is confirmed, and the store's condition
decides between rivals. Whatever is not next is left to the worker, and so is all when the store does not respond.
"""

import time
from collections.abc import Sequence

import structlog

from coupon.applying.apply import apply_ahead
from coupon.domain.errors import BackendError
from coupon.domain.model import ChangeCoupon, Coupon
from coupon.ports.group_commit import ForkedGroupCommit, MakeGroup
from coupon.ports.store import Store

TIMEOUT_S = 1.0
"""So long a caller waits for the group before its own."""
log = structlog.get_logger("coupon.awaited")


class Awaited:
    """A command, and its coupon as the store has it afterwards: None where that is not known. ``before`` is the coupon
    as the store had it, where the command was built on that."""

    __slots__ = ("before", "command", "coupon")

    def __init__(self, command: ChangeCoupon, before: Coupon | None = None) -> None:
        self.command, self.before = command, before
        self.coupon: Coupon | None = None


class AwaitedCommands:
    """Applies awaited commands in groups. Thread-safe."""

    def __init__(self, store: Store, make_group: MakeGroup = ForkedGroupCommit) -> None:
        self._store, self._group = store, make_group(self._apply)

    def apply(self, command: ChangeCoupon, before: Coupon | None = None) -> Coupon | None:
        """The coupon in the store after the command was applied, or was left to the worker. None when that is not
        known. ``before``: see ``Awaited``."""
        awaited = Awaited(command, before)
        try:
            self._group.do(awaited, time.monotonic() + TIMEOUT_S)
        except (BackendError, TimeoutError) as error:
            log.warning("left to the worker", code=command.code, operation=command.operation, error=str(error))
        return awaited.coupon

    def _apply(self, group: Sequence[Awaited], _deadline: float) -> None:
        known = {awaited.command.code: awaited.before for awaited in group if awaited.before is not None}
        coupons = apply_ahead(self._store, [awaited.command for awaited in group], known)
        for awaited in group:
            awaited.coupon = coupons.get(awaited.command.code)
