"""A repair of kafka-python 3.0.12: a partition that is paused while a part of what was fetched of it is still to be
delivered goes on when it is resumed.

The driver lays the rest aside, and takes it up again when it has nothing else in hand. But it keeps what it delivered
last, empty by now, and takes that for something else for ever: the partition is neither delivered nor fetched again.
"""

from typing import Any

from kafka.consumer.fetcher import Fetcher


class ResumingFetcher(Fetcher):  # type: ignore[misc]
    """Has nothing in hand when that is empty."""

    _next_partition_records: Any

    def fetched_records(self, *arguments: Any, **options: Any) -> Any:
        if not self._next_partition_records:
            self._next_partition_records = None
        return super().fetched_records(*arguments, **options)


def repair(consumer: Any) -> None:
    """The driver has no place where another fetcher could be given."""
    consumer._fetcher.__class__ = ResumingFetcher
