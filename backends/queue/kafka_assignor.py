"""Who gets which partitions of a Kafka group, by the rule of all our queues: each topic is shared out by itself.

The driver's own assignors count the partitions of all topics together. A worker may then have every partition of a
topic with nothing in it, and no commands at all, while it lives (decision 12).
"""

from collections.abc import Sequence
from typing import Any

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

from backends.queue.partitions import fair_share


class FairAssignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """Cooperative, as its parent: who has too many lets go of some and keeps the others, and who is due more gets what
    nobody has. Those who let go join again at once, and what they had is shared out then."""

    name = "fair-by-topic"

    def assign(self, cluster: Any, members: Sequence[Any]) -> dict[str, Any]:
        """Called in one of the members, with what each of them says of itself."""
        said = {member.member_id: self.parse_member_metadata(member.metadata) for member in members}
        owners = {partition: name for name, member in said.items() for partition in member.partitions}
        shares: dict[str, list[tuple[str, list[int]]]] = {name: [] for name in said}
        for topic in sorted({topic for member in said.values() for topic in member.subscription}):
            living = [name for name, member in said.items() if topic in member.subscription]
            partitions = sorted(cluster.partitions_for_topic(topic) or ())
            free = [number for number in partitions if owners.get((topic, number)) not in living]
            for name in living:
                due = fair_share(topic, len(partitions), name, living)
                kept = [number for number in partitions if owners.get((topic, number)) == name][:due]
                taken, free = free[: due - len(kept)], free[due - len(kept) :]
                shares[name].append((topic, kept + taken))
        return {name: ConsumerProtocolAssignment(self.version, share, b"") for name, share in shares.items()}
