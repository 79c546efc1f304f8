"""``coupon dead-letters``."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import Any

import click

from coupon.applying.closed_letters import Closing, close, closings
from coupon.applying.dead_letters import DeadLetter, browse_all, fault, replay
from coupon.cli.context import session
from coupon.cli.output import in_line, json_option, result, say
from coupon.domain.clock import now_ms
from coupon.domain.errors import BackendError
from coupon.domain.serialization import instant
from coupon.domain.topics import work_topics
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.runtime.wiring import Backends

BATCH = 100
"""Letters of which the store is asked at once: each may be half a megabyte."""
ids_argument = click.argument("ids", nargs=-1, metavar="[ID]...")
all_option = click.option("--all", "every", is_flag=True, help="All letters that are open.")


@click.group("dead-letters", short_help="Look at failed messages, replay or discard them.")
def command() -> None:
    """Messages that could not be applied: look at them, and replay them once the cause is repaired.

    A letter is open until it is replayed or discarded. If it fails again, there is a new letter with a new id. A
    command that was applied is recognised, and not applied again.
    """


@command.command("list")
@click.option("--all", "every", is_flag=True, help="Replayed and discarded ones, too.")
@json_option
def list_(every: bool, as_json: bool) -> int:
    """The open letters: id, time and reason. With --json one object a line.

    A message that is no dead letter is listed with its place in the topic of dead letters. While the store is
    unavailable, nobody knows which letters are open: all are listed, and the exit status is 1.
    """
    counts, known = Counter[str](), True
    with session() as (_, backends):
        for batch in _batches(browse_all(backends.queue)):
            closed, known = _closings(backends.store, batch) if known else ([None] * len(batch), False)
            for letter, closing in zip(batch, closed, strict=True):
                counts[_state(closing)] += 1
                if every or closing is None:
                    words = [letter.id, instant(letter.at), *([] if closing is None else [closing.how]), letter.reason]
                    result(as_json, _document(letter, closing), in_line("  ".join(map(str, words))))
    say(f"{counts['open']:,} open, {counts['replayed']:,} replayed, {counts['discarded']:,} discarded")
    return 0 if known else 1


@command.command()
@click.argument("letter_id", metavar="ID")
@json_option
def show(letter_id: str, as_json: bool) -> None:
    """One letter, with the whole message."""
    with session() as (_, backends):
        letter = _find(backends.queue, [letter_id])[0]
        closed, _ = _closings(backends.store, [letter])
    document = _document(letter, closed[0])
    hidden = ("valueBase64", "value")
    lines = [in_line(f"{name:<10}{value}") for name, value in document.items() if name not in hidden]
    result(as_json, document, "\n".join(lines) + f"\n\n{_readable(letter.value)}")


@command.command("replay")
@ids_argument
@all_option
@click.option("--sign", is_flag=True, help="Also these letters that are forged: they count as ours then.")
@json_option
def replay_(ids: tuple[str, ...], every: bool, sign: bool, as_json: bool) -> int:
    """Publish letters again to their topics.

    A letter of a topic that no worker reads, or that was too long to be stored whole, is named and left out. So is one
    that is forged, without --sign. The exit status is 1 then.
    """
    if sign and every:
        raise click.UsageError("--sign is for letters that you have looked at: give their ids")
    with session() as (settings, backends):
        left_out = LeftOut(work_topics(settings.topics), sign=sign)

        def replay_batch(batch: list[DeadLetter]) -> int:
            possible = [letter for letter in batch if left_out.has_no_fault(letter)]
            replay(backends.queue, possible)
            close(backends.store, possible, "replayed", now_ms())
            return len(possible)

        count = _for_each_batch(backends, ids, every, replay_batch)
    result(as_json, {"replayed": count, "leftOut": left_out.count}, f"{count:,} replayed")
    return 1 if left_out.count else 0


@command.command()
@ids_argument
@all_option
@json_option
def discard(ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Close letters that nobody needs any more. They stay in the queue, and can still be replayed by their ids."""
    with session() as (_, backends):

        def discard_batch(batch: list[DeadLetter]) -> int:
            close(backends.store, batch, "discarded", now_ms())
            return len(batch)

        count = _for_each_batch(backends, ids, every, discard_batch)
    result(as_json, {"discarded": count}, f"{count:,} discarded")


class LeftOut:
    """Prints which letters cannot be replayed, with the reason; ``count`` of them. ``sign``: forged letters can."""

    def __init__(self, topics: Collection[str], *, sign: bool) -> None:
        self._topics, self._sign, self.count = topics, sign, 0

    def has_no_fault(self, letter: DeadLetter) -> bool:
        reason = fault(letter, self._topics, sign=self._sign)
        if reason is not None:
            say(in_line(f"{letter.id} is not replayed: {reason}"))
            self.count += 1
        return reason is None


def _for_each_batch(
    backends: Backends, ids: tuple[str, ...], every: bool, step: Callable[[list[DeadLetter]], int]
) -> int:
    """Call the step with the letters of these ids, or with all open ones; returns the sum of what it returns."""
    if bool(ids) == every:
        raise click.UsageError("give the ids of letters, or --all")
    letters = browse_all(backends.queue) if every else iter(_find(backends.queue, ids))
    count = 0
    for batch in _batches(letters):
        closed = closings(backends.store, batch)  # before anything is done: it fails when the store is unavailable
        count += step([letter for letter, closing in zip(batch, closed, strict=True) if closing is None or not every])
    return count


def _closings(store: Store, batch: list[DeadLetter]) -> tuple[list[Closing | None], bool]:
    """Of each letter, as far as the store knows; False when it did not answer."""
    try:
        return closings(store, batch), True
    except BackendError as error:
        say(f"nobody knows which letters are open: {error}")
        return [None] * len(batch), False


def _find(queue: Queue, ids: Iterable[str]) -> list[DeadLetter]:
    """The letters with these ids; an error when one is missing."""
    requested = set(ids)
    letters = {letter.id: letter for letter in browse_all(queue) if letter.id in requested}
    missing = requested - letters.keys()
    if missing:
        raise click.ClickException(f"no dead letter has the id {in_line(', '.join(sorted(missing)))}")
    return list(letters.values())


def _batches(letters: Iterator[DeadLetter]) -> Iterator[list[DeadLetter]]:
    while batch := list(islice(letters, BATCH)):
        yield batch


def _state(closing: Closing | None) -> str:
    return "open" if closing is None else closing.how


def _document(letter: DeadLetter, closing: Closing | None) -> dict[str, Any]:
    return {
        "id": letter.id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": letter.key,
        "at": instant(letter.at),
        "state": _state(closing),
        "closedAt": None if closing is None else instant(closing.at),
        "reason": letter.reason,
        "forged": letter.forged,
        "valueBase64": base64.b64encode(letter.value).decode(),
        "value": letter.value.decode(errors="backslashreplace"),
    }


def _readable(value: bytes) -> str:
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=False)
    except ValueError:
        return value.decode(errors="backslashreplace")
