"""``coupon import``."""

import time
from functools import partial
from pathlib import Path

import click

from coupon.acceptance.service import CommandService
from coupon.bulk.columns import Days
from coupon.bulk.csv_rows import BadRow, day_of
from coupon.bulk.duplicates import DuplicateFinder
from coupon.bulk.importer import Counts, Importer, checked_rows, find_duplicates
from coupon.bulk.rejected import RejectedRows
from coupon.bulk.row_file import RowFile, open_rows
from coupon.cli.context import session
from coupon.cli.output import in_line, json_option, progress, result, say, waiting_for
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendUnavailable, UnusableFile
from coupon.domain.model import Day
from coupon.domain.topics import GROUP, command_topics
from coupon.runtime.heartbeat import worked_lately
from coupon.runtime.retry import retry_for
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from coupon.runtime.worker_registry import living

SHOWN_MAX = 20
"""Bad rows that are shown; the file of the rejected rows has them all."""
PAUSE_S, PAUSE_MAX_S = 0.02, 0.5
QUIET_S = 5


class DayType(click.ParamType[Day]):
    """A day as the rows of a file have it."""

    name = "day"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Day:
        try:
            return day_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("import", short_help="Create the coupons of a file.")
@click.argument("file")
@click.option("--valid-from", type=DayType(), metavar="DAY", help="The first day of rows that have none.")
@click.option("--expire-at", type=DayType(), metavar="DAY", help="The last day of rows that have none.")
@click.option("--no-wait", is_flag=True, help="Leave when the queue has all rows, before the worker applied them.")
@json_option
def command(file: str, valid_from: Day | None, expire_at: Day | None, no_wait: bool, as_json: bool) -> int:
    """Create the coupons of FILE: rows of a code, its first day and its last day.

    Commas, semicolons or tabs separate them. Days are written as 20261231, 2026-12-31 or 2026/12/31. A header names
    the columns: couponCode, validFrom and expireAt, as `coupon export` writes them, in any order among others.

    Bad rows are written to FILE.rejected.csv and the rest is imported; the exit status is 1 then. Correct them there,
    and import that file. Importing a file again changes nothing, and completes a run that was stopped.
    """
    started = time.monotonic()
    with (
        open_rows(file, Days(valid_from, expire_at)) as rows,
        session() as (settings, backends),
        RejectedRows(file, rows.columns) as rejected,
    ):
        if rows.columns.header is not None:
            say(in_line(f"line {rows.header_line} was {rows.columns.sentence()}"))
        importer = Importer(
            CommandService(backends, settings),
            backends.store,
            lambda row: _reject(row, rejected, importer.counts),
            None if no_wait else WorkerWait(backends, settings),
            waiting_for,
        )
        _run(importer, rows, file)
    counts = importer.counts
    _report(as_json, file, counts, rejected.path, time.monotonic() - started)
    return 1 if counts.bad else 0


def _run(importer: Importer, rows: RowFile, file: str) -> None:
    with DuplicateFinder(rows.size_bytes) as finder:
        with progress("checking", rows.size_bytes, "bytes") as checked:
            total = find_duplicates(rows, finder, checked)
        if not total:
            raise UnusableFile(f"{file} has {'no rows' if rows.columns.header is None else 'a header and no rows'}")
        with progress("importing", total, "rows") as imported:
            try:
                importer.run(checked_rows(rows, finder.duplicates()), lambda counts: imported(counts.rows))
            except (KeyboardInterrupt, BackendUnavailable):
                say("stopped before the end; run the same command again, and it completes the import")
                raise


def _reject(row: BadRow, rejected: RejectedRows, counts: Counts) -> None:
    rejected.add(row)
    if counts.bad <= SHOWN_MAX:
        say(in_line(f"line {row.line}: {row.reason}"))


class WorkerWait:
    """Sleeps while the import waits for the worker, and reports when there seems to be no worker. Ends the import when
    the queue is empty and rows are missing: their messages are dead letters."""

    def __init__(self, backends: Backends, settings: Settings) -> None:
        self._cache, self._code_deriver, self._queue = backends.cache, CodeDeriver(settings.secret), backends.queue
        self._heartbeat_file, self._topics = settings.heartbeat_file, command_topics(settings.topics)
        self._quiet_since = time.monotonic()
        self._warned = self._drained = False

    def __call__(self, quiet: int) -> None:
        if quiet == 0:
            self._quiet_since, self._drained = time.monotonic(), False
        elif time.monotonic() - self._quiet_since > QUIET_S:
            self._look_around()
        time.sleep(min(PAUSE_S * (quiet + 1), PAUSE_MAX_S))

    def _look_around(self) -> None:
        if self._drained:  # at the last look, before the store was asked once more
            raise click.ClickException("the workers gave up some of the rows: coupon dead-letters list tells why")
        lag = partial(self._queue.lag, self._topics, GROUP)
        self._drained = retry_for(lag, waiting_for("queue")) == 0
        if not self._warned and not self._drained and not self._worker_is_alive():
            say(
                "waiting for a worker: none gives a sign of life (python worker.py starts one); what was read is queued"
            )
            self._warned = True

    def _worker_is_alive(self) -> bool:
        try:
            return worked_lately(self._heartbeat_file) or bool(living(self._cache, self._code_deriver))
        except BackendUnavailable:  # unknown
            return False


def _report(as_json: bool, file: str, counts: Counts, rejected: Path | None, seconds: float) -> None:
    rate = round(counts.rows / seconds)
    sentence = f"{counts.new:,} new, {counts.unchanged:,} unchanged, {counts.bad:,} bad: {rate:,} rows a second"
    if counts.unchanged and not counts.new:
        sentence += "\nnothing was changed: the coupons were there already"
    if rejected is not None:
        sentence += f"\nthe bad rows are in {rejected}"
    document = {
        "file": file,
        "rows": counts.rows,
        "new": counts.new,
        "unchanged": counts.unchanged,
        "bad": counts.bad,
        "rejectedFile": None if rejected is None else str(rejected),
        "seconds": round(seconds, 3),
        "rowsPerSecond": rate,
    }
    result(as_json, document, sentence)
