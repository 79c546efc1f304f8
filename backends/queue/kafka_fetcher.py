"""A fix of kafka-python 3.0.12: a partition that was paused before all fetched messages were delivered goes on when
it is resumed.

The driver puts the remaining messages aside until it has delivered all others. But it keeps the last batch that it
delivered, now empty, and takes it for undelivered ones: the partition is neither delivered nor fetched again.
"""

from typing import Any

from kafka.consumer.fetcher import Fetcher


class ResumeFix(Fetcher):  # type: ignore[misc]
    """Has nothing in flight when that is empty."""

    _next_partition_records: Any

    def fetched_records(self, *arguments: Any, **options: Any) -> Any:
        if not self._next_partition_records:
            self._next_partition_records = None
        return super().fetched_records(*arguments, **options)


def apply_fix(consumer: Any) -> None:
    """The driver has no place where another fetcher could be given."""
    consumer._fetcher.__class__ = ResumeFix
