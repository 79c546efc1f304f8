"""Importing coupons whose codes are in a file.

Rows are published as commands, a window at a time, and the worker's markers show what became of them (decision 13). A
chunk that was partly in the store is read back row by row. When a sample of the window is in the store, or the import
does not wait for the worker, the whole window is compared first. Then only missing rows are published.

Memory stays flat: only one window is held. Nothing is remembered between runs: a second run finds the coupons of the
first one in the store.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

from coupon.acceptance.creations import ImportChunk
from coupon.acceptance.service import CommandService
from coupon.applying.safe_reads import read
from coupon.bulk.csv_rows import BadRow, Row
from coupon.bulk.duplicates import Duplicate, DuplicateFinder
from coupon.bulk.row_file import RowFile
from coupon.domain.codes import show
from coupon.domain.errors import BackendUnavailable, TooManyCreations, fault
from coupon.domain.model import CHUNK, IMPORT, Day
from coupon.ports.store import Store
from coupon.runtime.retry import retry_for

WINDOW = 20_000
"""Rows that are published at once. They are applied before the next ones are published, so that other commands do not
wait for long."""
SAMPLE = 100
"""The most rows of a window that are looked up to see whether it may be in the store: one read of DynamoDB's."""
LOOKED_FOR = 500
"""The most markers that are looked up at once: the first of those that are missing."""
READ = 5_000
"""Coupons that are read at once. Only the fields that an import compares stay in memory."""
QUIET_LOOKS = 10
"""After so many looks without a new marker, the chunks with a marker are read back. So their rows are reported even if
the rest never arrives."""


ISSUED = "the coupon was issued: it is not imported, because an import creates coupons that nobody holds"
FULL_PAUSE_S = 1.0
"""The pause between two tries while the limit on creations is reached."""


class Stored(NamedTuple):
    """The fields of a coupon that an import compares. The operation that created it is None when its history begins
    later. ``fault`` is the error when it cannot be read."""

    valid_from: Day
    expire_at: Day
    created_by: str | None
    chunk_complete: bool
    fault: str | None = None


@dataclass(slots=True)
class Counts:
    """The numbers of rows by result, so far."""

    new: int = 0
    unchanged: int = 0
    bad: int = 0

    @property
    def rows(self) -> int:
        return self.new + self.unchanged + self.bad


def find_duplicates(file: RowFile, finder: DuplicateFinder, on_progress: Callable[[int], None]) -> int:
    """Read the file a first time, and add its codes to the finder; returns the number of rows. Progress is in bytes."""
    number = 0
    for number, row in enumerate(file, 1):
        if isinstance(row, Row):
            finder.add(row.code, row.line)
        if number % WINDOW == 0:
            on_progress(file.read_bytes)
    on_progress(file.read_bytes)
    return number


def checked_rows(file: RowFile, duplicates: Iterator[Duplicate]) -> Iterator[Row | BadRow]:
    """The file's rows. A row whose code is on an earlier line is bad."""
    duplicate = next(duplicates, None)
    for row in file:
        if duplicate is not None and duplicate.line == row.line:
            yield BadRow(row.line, row.text, f"the code is a duplicate of the one on line {duplicate.first}")
            duplicate = next(duplicates, None)
        else:
            yield row


class Importer:
    """Takes rows, once each.

    ``reject`` is called with each bad row. ``pause`` is called between two looks at the store, with the number of
    looks in a row that found nothing new. Without it, rows count as new once the queue has them. ``waiting_for`` takes
    a role, and returns a function that is called when the backend of that role does not answer.
    """

    def __init__(
        self,
        service: CommandService,
        store: Store,
        reject: Callable[[BadRow], None],
        pause: Callable[[int], None] | None,
        waiting_for: Callable[[str], Callable[[BackendUnavailable], None]],
    ) -> None:
        self._service, self._store = service, store
        self._tell_bad, self._pause, self._waiting_for = reject, pause, waiting_for
        self.counts = Counts()

    def run(self, file_rows: Iterable[Row | BadRow], on_progress: Callable[[Counts], None]) -> Counts:
        """Import all rows. Raises BackendUnavailable: then some were imported, which the next run recognises."""
        remaining = iter(file_rows)
        while window := list(islice(remaining, WINDOW)):
            chunks = _chunks(self._missing(window))
            operation = self._publish(chunks)
            if self._pause is None:
                self.counts.new += sum(map(len, chunks))
            else:
                self._wait_for(chunks, operation, self._pause, on_progress)
            on_progress(self.counts)
        return self.counts

    def _missing(self, window: list[Row | BadRow]) -> list[Row]:
        """The rows to publish: all, or those that are not in the store."""
        good = [row for row in window if isinstance(row, Row) and not row.is_issued]
        for row in window:
            if isinstance(row, BadRow):
                self._reject(row)
        self._compare_issued([row for row in window if isinstance(row, Row) and row.is_issued])
        sample = [row.code for row in good[:: len(good) // SAMPLE + 1]]
        if self._pause is not None and not self._stored(sample):
            return good
        stored = self._stored([row.code for row in good])
        for row in good:
            if row.code in stored:
                self._count(row, stored[row.code], operation=None)
        return [row for row in good if row.code not in stored]

    def _compare_issued(self, issued: list[Row]) -> None:
        """Count rows of coupons that somebody holds: they are never created, because they would be free."""
        stored = self._stored([row.code for row in issued])
        for row in issued:
            if row.code in stored:
                self._count(row, stored[row.code], operation=None)
            else:
                self._reject(BadRow(row.line, row.text, ISSUED))

    def _publish(self, chunks: list[list[Row]]) -> str:
        """Publish the rows, and return the operation that creates the coupons. Retries while the queue is unavailable,
        or while the limit on creations is reached. Rows that are published twice change nothing."""
        operation = self._service.code_deriver.operation(IMPORT, None)
        import_chunks = [
            ImportChunk(tuple(row.code for row in chunk), chunk[0].valid_from, chunk[0].expire_at) for chunk in chunks
        ]
        publish = partial(self._service.import_chunks, operation, import_chunks, IMPORT)
        reported = False
        while True:
            try:
                retry_for(publish, self._waiting_for("queue"))
                return operation
            except TooManyCreations as error:
                if not reported:
                    self._waiting_for("workers")(BackendUnavailable(str(error)))
                reported = True
                time.sleep(FULL_PAUSE_S)

    def _wait_for(
        self,
        chunks: list[list[Row]],
        operation: str,
        pause: Callable[[int], None],
        on_progress: Callable[[Counts], None],
    ) -> None:
        """Wait until the worker has applied the chunks, and count their rows.

        The marker records whether its whole chunk is new. Other chunks are read back: another import, or an earlier run
        of this one, may have created some of their coupons, even with other days.
        """
        unmarked, doubtful, quiet = chunks, list[list[Row]](), 0
        while unmarked or doubtful:
            there = self._stored([chunk[-1].code for chunk in unmarked[:LOOKED_FOR]])
            arrived = [chunk for chunk in unmarked if chunk[-1].code in there]
            unmarked = [chunk for chunk in unmarked if chunk[-1].code not in there]
            for chunk in arrived:
                marker = there[chunk[-1].code]
                if marker.created_by == operation and marker.chunk_complete:
                    self.counts.new += len(chunk)
                else:
                    doubtful.append(chunk)
            counted = 0
            if not unmarked or quiet >= QUIET_LOOKS:
                incomplete = self._read_back(doubtful, operation)
                counted, doubtful = len(doubtful) - len(incomplete), incomplete
            if unmarked or doubtful:
                on_progress(self.counts)
                quiet = 0 if arrived or counted else quiet
                pause(quiet)
                quiet += 1

    def _read_back(self, chunks: list[list[Row]], operation: str) -> list[list[Row]]:
        """Count the rows of the chunks that are wholly in the store; returns the rest."""
        stored = self._stored([row.code for chunk in chunks for row in chunk])
        incomplete = []
        for chunk in chunks:
            if all(row.code in stored for row in chunk):
                for row in chunk:
                    self._count(row, stored[row.code], operation)
            else:
                incomplete.append(chunk)
        return incomplete

    def _stored(self, codes: list[str]) -> dict[str, Stored]:
        """The coupons in the store, by code. Retries while the store is unavailable."""
        stored = {}
        for first in range(0, len(codes), READ):
            look = partial(read, self._store, codes[first : first + READ])
            there = retry_for(look, self._waiting_for("store"))
            for coupon in there.coupons.values():
                stored[coupon.code] = Stored(
                    coupon.valid_from, coupon.expire_at, coupon.created_by, coupon.chunk_complete
                )
            for code, reason in there.unreadable.items():
                stored[code] = Stored(Day(""), Day(""), None, False, fault(show(code), reason))
        return stored

    def _count(self, row: Row, stored: Stored, operation: str | None) -> None:
        """Count a row whose coupon is in the store; it is new if that operation created it."""
        if stored.fault is not None:
            self._reject(BadRow(row.line, row.text, stored.fault))
        elif (row.valid_from, row.expire_at) != (stored.valid_from, stored.expire_at):
            self._reject(_conflict(row, stored))
        elif operation is not None and stored.created_by == operation:
            self.counts.new += 1
        else:
            self.counts.unchanged += 1

    def _reject(self, row: BadRow) -> None:
        self.counts.bad += 1
        self._tell_bad(row)


def _chunks(missing: list[Row]) -> list[list[Row]]:
    """The rows in chunks: those of one chunk have the same days, and fit into a message."""
    by_days: dict[tuple[Day, Day], list[Row]] = {}
    for row in missing:
        by_days.setdefault((row.valid_from, row.expire_at), []).append(row)
    return [group[first : first + CHUNK] for group in by_days.values() for first in range(0, len(group), CHUNK)]


def _conflict(row: Row, stored: Stored) -> BadRow:
    reason = f"the coupon exists already with other days: {stored.valid_from} to {stored.expire_at}"
    return BadRow(row.line, row.text, reason)
