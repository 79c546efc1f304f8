"""Importing coupons whose codes are given: rows are published as commands, a window of them at a time, and what the
worker made of them is read back. Where a look at some of a window finds one that is in the store already, all of it is
compared before, and only what is missing is published.

Flat memory: a window, and what is on its way, are all that is held. Nothing is remembered between runs: a second run
finds in the store what the first one did.
"""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple, Self, TextIO

from coupon.duplicates import Duplicate, DuplicateFinder
from coupon.model import CHUNK, Coupon, Day
from coupon.ports.store import Store
from coupon.rows import BadRow, Row, rows
from coupon.service import CommandService, Given

WINDOW = 5_000
"""Rows that are looked up and published at once."""
ON_THE_WAY_MAX = 4 * WINDOW
"""Rows that are published and not in the store yet: the worker has work, and other commands do not wait for long."""
SAMPLE = 100
"""Rows of a window that tell whether some may be in the store already: what DynamoDB reads at once."""
LOOKED_FOR = 500
"""Of the chunks on their way, as many are looked for at once, the oldest."""
ACTOR = "coupon import"


class Chunk(NamedTuple):
    """Rows with the same days that were published together, and the operation that creates them."""

    operation: str
    rows: list[Row]


@dataclass(slots=True)
class Counts:
    """What became of the rows so far."""

    new: int = 0
    unchanged: int = 0
    bad: int = 0

    @property
    def rows(self) -> int:
        return self.new + self.unchanged + self.bad


def check(file: TextIO, finder: DuplicateFinder, on_progress: Callable[[int], None]) -> int:
    """Read the file a first time, to find the codes that it has twice; the number of its rows. Progress is in bytes."""
    number = 0
    for number, row in enumerate(rows(file), 1):
        if isinstance(row, Row):
            finder.add(row.code, row.line)
        if number % WINDOW == 0:
            on_progress(file.buffer.tell())
    return number


def checked_rows(file: TextIO, duplicates: Iterator[Duplicate]) -> Iterator[Row | BadRow]:
    """The file's rows, of which those are bad whose code stood on a line before."""
    duplicate = next(duplicates, None)
    for row in rows(file):
        if duplicate is not None and duplicate.line == row.line:
            yield BadRow(row.line, row.text, f"the code is a duplicate of the one on line {duplicate.first}")
            duplicate = next(duplicates, None)
        else:
            yield row


class Importer:
    """Takes rows, once each.

    ``reject`` is told each bad row. ``pause`` is called between two looks at the store, with the number of looks in a
    row that found nothing new; without it, rows count as new once the queue has them.
    """

    def __init__(
        self,
        service: CommandService,
        store: Store,
        reject: Callable[[BadRow], None],
        pause: Callable[[int], None] | None,
    ) -> None:
        self._service, self._store = service, store
        self._tell_bad, self._pause = reject, pause
        self._on_progress: Callable[[Counts], None] = lambda _: None
        self._on_the_way: list[Chunk] = []
        self.counts = Counts()

    def run(self, given: Iterable[Row | BadRow], on_progress: Callable[[Counts], None]) -> Counts:
        """Import all rows; raises BackendUnavailable, and then some were imported, which the next run finds done."""
        self._on_progress = on_progress
        remaining = iter(given)
        while window := list(islice(remaining, WINDOW)):
            missing = self._missing(window)
            self._wait_until_at_most(ON_THE_WAY_MAX - len(missing))
            self._publish(missing)
            self._on_progress(self.counts)
        self._wait_until_at_most(0)
        return self.counts

    def _missing(self, window: list[Row | BadRow]) -> list[Row]:
        """The rows to be published: all, or those that are not in the store."""
        good = [row for row in window if isinstance(row, Row)]
        for row in window:
            if isinstance(row, BadRow):
                self._reject(row)
        sample = [row.code for row in good[:: len(good) // SAMPLE + 1]]
        if self._pause is not None and not self._store.get_many(sample):
            return good
        stored = self._store.get_many(row.code for row in good)
        for row in good:
            if row.code in stored:
                self._count(row, stored[row.code], operation=None)
        return [row for row in good if row.code not in stored]

    def _publish(self, missing: list[Row]) -> None:
        groups = _groups(missing)
        operation = self._service.create_given(
            [Given(tuple(row.code for row in rows), rows[0].valid_from, rows[0].expire_at) for rows in groups],
            ACTOR,
        )
        if self._pause is None:
            self.counts.new += len(missing)
        else:
            self._on_the_way += [Chunk(operation, rows) for rows in groups]

    def _wait_until_at_most(self, limit: int) -> None:
        """Wait until no more rows than that are on their way."""
        quiet = 0
        while self._pause is not None and sum(len(chunk.rows) for chunk in self._on_the_way) > limit:
            if self._collect():
                quiet = 0
                self._on_progress(self.counts)
            else:
                self._pause(quiet)
                quiet += 1

    def _collect(self) -> bool:
        """Count the chunks that have arrived; False when none has.

        The marker says when it is worth looking; the rows are read back all the same, since another import, or one that
        was interrupted, may have brought some of them, with other days even.
        """
        oldest = self._on_the_way[:LOOKED_FOR]
        markers = self._store.get_many(chunk.rows[-1].code for chunk in oldest)
        candidates = [chunk for chunk in oldest if chunk.rows[-1].code in markers]
        stored = self._store.get_many(row.code for chunk in candidates for row in chunk.rows)
        arrived = [chunk for chunk in candidates if all(row.code in stored for row in chunk.rows)]
        places = {id(chunk) for chunk in arrived}
        self._on_the_way[:LOOKED_FOR] = [chunk for chunk in oldest if id(chunk) not in places]
        for chunk in arrived:
            for row in chunk.rows:
                self._count(row, stored[row.code], chunk.operation)
        return bool(arrived)

    def _count(self, row: Row, coupon: Coupon, operation: str | None) -> None:
        """The row's coupon is in the store; it is new if that operation made it."""
        born = coupon.entry_at(1)
        if (row.valid_from, row.expire_at) != (coupon.valid_from, coupon.expire_at):
            self._reject(_conflict(row, coupon))
        elif born is not None and born.operation == operation:
            self.counts.new += 1
        else:
            self.counts.unchanged += 1

    def _reject(self, row: BadRow) -> None:
        self.counts.bad += 1
        self._tell_bad(row)


def _groups(missing: list[Row]) -> list[list[Row]]:
    """The rows with the same days together, up to a message's size."""
    by_days: dict[tuple[Day, Day], list[Row]] = {}
    for row in missing:
        by_days.setdefault((row.valid_from, row.expire_at), []).append(row)
    return [group[first : first + CHUNK] for group in by_days.values() for first in range(0, len(group), CHUNK)]


def _conflict(row: Row, coupon: Coupon) -> BadRow:
    reason = f"the coupon exists already with other days: {coupon.valid_from} to {coupon.expire_at}"
    return BadRow(row.line, row.text, reason)


class RejectedRows:
    """The file of the bad rows (line, reason, the row as it was, every byte of it). Made with the first one; what an
    earlier run left there is removed. A context."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None
        path.unlink(missing_ok=True)

    def add(self, row: BadRow) -> None:
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
            csv.writer(self._file).writerow(["line", "reason", "row"])
        csv.writer(self._file).writerow([row.line, row.reason, row.text])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
