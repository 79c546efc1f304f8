"""Counting what becomes of commands in the worker, and timing them from their acceptance until they are applied."""

from collections.abc import Sequence

from coupon.applying.apply import Applied
from coupon.domain.clock import Clock
from coupon.domain.model import ChangeCoupon, CreateCoupons, Kind, Loser
from coupon.domain.protocol import Verdict
from coupon.runtime.metrics import APPLIED_S, COMMANDS, COUPONS_CREATED, DEAD_LETTERED, REFUSALS

OUTCOMES = {Verdict.APPLIED: "applied", Verdict.REJECTED: "rejected", Verdict.DUPLICATE: "duplicate"}
"""What is deferred has none yet."""


class Tally:
    """That of one worker, which reads these topics. Dead letters are shown from 0 on: an alert misses a first one that
    comes from nothing."""

    def __init__(self, clock: Clock, topics: Sequence[str]) -> None:
        self._clock = clock
        for topic in topics:
            DEAD_LETTERED.add(topic, by=0)

    def changes(self, commands: Sequence[ChangeCoupon], applied: Applied, lost: Sequence[Loser]) -> None:
        """Count changes by their verdicts. ``lost`` has the reasons of those that were rejected."""
        now = self._clock()
        reasons = {(loser.operation, loser.number): loser.reason for loser in lost}
        for command, verdict in zip(commands, applied.verdicts, strict=True):
            if verdict is None or (counted_as := OUTCOMES.get(verdict)) is None:
                continue
            COMMANDS.add(command.kind, counted_as)
            if verdict is Verdict.APPLIED:
                APPLIED_S.observe(max(0.0, (now - command.accepted_at) / 1000), command.kind)
            elif verdict is Verdict.REJECTED and (reason := reasons.get((command.operation, command.number))):
                REFUSALS.add(command.kind, reason)

    def creations(self, chunks: Sequence[CreateCoupons]) -> None:
        """Count chunks of creations, each as one command, and their coupons."""
        now = self._clock()
        for chunk in chunks:
            COMMANDS.add(Kind.CREATE, "applied")
            COUPONS_CREATED.add(by=chunk.size)
            APPLIED_S.observe(max(0.0, (now - chunk.accepted_at) / 1000), Kind.CREATE)
