"""``coupon restore``."""

import time
from dataclasses import asdict
from datetime import UTC, datetime

import click

from coupon.bulk.queue_history import Recorded
from coupon.bulk.queue_reach import backup_needed_from
from coupon.bulk.reindex import reindex
from coupon.bulk.restore import Counts, Restore
from coupon.bulk.scan import pages
from coupon.cli.context import session
from coupon.cli.output import Unread, json_option, progress, result, say, with_retries
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendUnavailable
from coupon.domain.serialization import instant
from coupon.domain.topics import all_topics
from coupon.ports.store import Store
from coupon.runtime.heartbeat import is_fresh
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from coupon.runtime.worker_registry import STALE_S, living


class Instant(click.ParamType[int]):
    """Milliseconds since the epoch, of an ISO instant in the past with its time zone."""

    name = "instant"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not an instant such as 2026-11-22T15:40:43Z", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r} has no time zone: 2026-11-22T15:40:43Z is in UTC", param, ctx)
        if moment > datetime.now(UTC):
            self.fail(f"{value!r} is in the future; a backup was taken before {datetime.now(UTC):%FT%TZ}", param, ctx)
        return round(moment.timestamp() * 1000)


@click.command("restore", short_help="Make the store as it was, from the queue.")
@click.option("--backup-from", type=Instant(), metavar="INSTANT", help="When the backup in the store was taken.")
@click.option("--force", is_flag=True, help="Though a worker gave a sign of life lately.")
@json_option
def command(backup_from: int | None, force: bool, as_json: bool) -> int:
    """Restore every coupon from the queue alone; then rebuild the search index.

    The store has to be empty, or restored from a backup. Stop the web side and all workers before. If this command was
    stopped, run it again: commands in the store are recognised. The exit status is 1 when messages were left over,
    or are forged.
    """
    with session() as (settings, backends):
        if not force and _a_worker_lives(settings, backends):
            raise click.ClickException(
                f"a worker gave a sign of life in the last {STALE_S} s: stop the web side and all workers, and wait for"
                " as long; or --force"
            )
        retrying = with_retries("backend")
        recorded = Recorded(backends.queue, all_topics(settings.topics), retrying)
        _check_reach(backends, recorded, backup_from)
        started = time.monotonic()
        with progress("restoring", len(recorded), "messages") as on_progress:
            restore = Restore(
                backends.queue, backends.store, CodeDeriver(settings.secret), recorded, on_progress, retrying
            )
            counts = restore.run()
        seconds = time.monotonic() - started
        unread = Unread()
        with progress("indexing", None) as on_progress:
            indexed = reindex(pages(backends.store, unread), backends.search, on_progress)
    _report(as_json, counts, indexed, seconds, unread)
    return 1 if counts.left or counts.forged or unread.count else 0


def _a_worker_lives(settings: Settings, backends: Backends) -> bool:
    try:
        return is_fresh(settings.heartbeat_file) or bool(living(backends.cache, CodeDeriver(settings.secret)))
    except BackendUnavailable:  # unknown
        return False


def _check_reach(backends: Backends, recorded: Recorded, backup_from: int | None) -> None:
    """Refuse when commands are neither in the queue any more nor in the store."""
    if not recorded.trimmed():
        return
    needed, places = backup_needed_from(backends.queue, recorded), recorded.trimmed()
    topics = ", ".join(sorted({position.topic for position in places}))
    sentence = f"the queue does not keep the oldest messages any more (of {topics}): a backup"
    sentence += f" of {instant(needed)} or later is needed" if needed else " is needed that is as young as they were"
    if _is_empty(backends.store):
        raise click.ClickException(f"{sentence}, and the store is empty")
    if backup_from is None:
        raise click.ClickException(f"{sentence}; say with --backup-from when the one in the store was taken")
    if backup_from < needed:
        raise click.ClickException(sentence)


def _is_empty(store: Store) -> bool:
    return not any(pages(store))


def _report(as_json: bool, counts: Counts, indexed: int, seconds: float, unread: Unread) -> None:
    rate = round(counts.messages / seconds)
    document = {
        **asdict(counts),
        "indexed": indexed,
        "unreadable": unread.count,
        "seconds": round(seconds, 3),
        "messagesPerSecond": rate,
    }
    sentence = (
        f"{counts.applied:,} commands applied, {counts.rejected:,} rejected, {counts.recognised:,} recognised, on the"
        f" {counts.coupons:,} coupons of all creations; {counts.waiting:,} changes are left to the workers;\n"
        f"{counts.messages:,} messages in {seconds:.1f} s, {rate:,} a second; {indexed:,} coupons indexed"
        f"{unread.suffix()}"
    )
    result(as_json, document, sentence)
    if counts.left:
        say(f"{counts.left:,} messages were left over: they are logged above")
    if counts.forged:
        say(f"{counts.forged:,} messages are not signed with a key of ours, and were left out: they are logged above")
