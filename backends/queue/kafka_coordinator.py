"""Repairs of kafka-python 3.0.12: a member whose polls are shorter than a join gets into its group all the same, and
says then which partitions it has.

A join goes on in the driver's own thread when a poll ends before it. What the driver then does with its outcome:

- Unless the join was asked for by a flag (a change of the topics' metadata does not set it), the next poll does not
  look for the outcome. The member stays in the group's eyes, and in its own without partitions, indefinitely.
- A join that ended between two polls is thrown away, and another is begun, which makes all others join again.

A cooperative member claims what it has. The driver's claim is what the assignor last assigned: of an assignor that was
not used, nothing, and of a member that the group took for dead, all that it lost. A partition that is not claimed may
go to two at once; one that is claimed in error is kept for who does not have it. So who was put out of the group while
it joined claims nothing either.
"""

from typing import Any

from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.structs import MemberState


class JoinResultFix(ConsumerCoordinator):  # type: ignore[misc]
    """Keeps the outcome of a join until a poll takes it; claims what it has."""

    _outcome: tuple[int, bytes] | None = None
    """The generation that was joined, and the partitions assigned in it."""

    def group_protocols(self) -> list[tuple[str, Any]]:
        is_member = self._generation.has_member_id()
        held = sorted(self._subscription.assigned_partitions()) if is_member else []
        for assignor in self._assignors.values():
            assignor.member_assignment = held
        protocols: list[tuple[str, Any]] = super().group_protocols()
        return protocols

    async def _do_join_and_sync_async(self) -> bytes:
        outcome, self._outcome = self._outcome, None
        if outcome is not None and self.state is MemberState.REBALANCING:
            generation, assigned = outcome
            if generation == self._generation.generation_id:
                return assigned
        self.request_rejoin()
        assignment: bytes = await super()._do_join_and_sync_async()
        self._outcome = self._generation.generation_id, assignment
        return assignment

    async def _on_join_complete_async(self, *joined: Any) -> None:
        self._outcome = None
        await super()._on_join_complete_async(*joined)


def apply_fix(consumer: Any) -> None:
    """The driver has no place where another coordinator could be given."""
    consumer._coordinator.__class__ = JoinResultFix
