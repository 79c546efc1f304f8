"""``coupon dead-letters``."""

import base64
import json
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any

import click

from coupon.applying.dead_letters import DeadLetter, browse, fault, replay
from coupon.cli.context import session
from coupon.cli.output import in_line, json_option, result, say
from coupon.domain.serialization import instant
from coupon.domain.topics import work_topics
from coupon.ports.queue import Delivery, Queue

BATCH = 500


@click.group("dead-letters", short_help="Look at failed messages, replay them.")
def command() -> None:
    """Messages that could not be applied: look at them, and replay them once the cause is repaired.

    Letters stay listed after they were replayed. A command that was applied is recognised, and not applied again.
    """


@command.command("list")
@json_option
def list_(as_json: bool) -> int:
    """All letters: id, time and reason. With --json one object a line.

    Messages that are no dead letters are named and left out. The exit status is 1 then.
    """
    count, left_out = 0, LeftOut()
    with session() as (_, backends):
        for count, letter in enumerate(browse(backends.queue, left_out.message), 1):  # noqa: B007 - told below
            result(as_json, _document(letter), in_line(f"{letter.id}  {instant(letter.at)}  {letter.reason}"))
    say(f"{count:,} dead letters")
    return 1 if left_out.count else 0


@command.command()
@click.argument("letter_id", metavar="ID")
@json_option
def show(letter_id: str, as_json: bool) -> None:
    """One letter, with the whole message."""
    with session() as (_, backends):
        letter = _find(backends.queue, [letter_id])[0]
    lines = [in_line(f"{name:<10}{value}") for name, value in _document(letter).items() if name != "valueBase64"]
    result(as_json, _document(letter), "\n".join(lines[:-1]) + f"\n\n{_readable(letter.value)}")


@command.command("replay")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All letters there are.")
@click.option("--sign", is_flag=True, help="Also these letters that are forged: they count as ours then.")
@json_option
def replay_(ids: tuple[str, ...], every: bool, sign: bool, as_json: bool) -> int:
    """Publish letters again to their topics.

    A letter of a topic that no worker reads, or that was too long to be stored whole, is named and left out. So is one
    that is forged, without --sign. The exit status is 1 then.
    """
    if bool(ids) == every:
        raise click.UsageError("give the ids of letters, or --all")
    if sign and every:
        raise click.UsageError("--sign is for letters that you have looked at: give their ids")
    count, left_out = 0, LeftOut(sign=sign)
    with session() as (settings, backends):
        topics = work_topics(settings.topics)
        letters = browse(backends.queue, left_out.message) if every else iter(_find(backends.queue, ids))
        for batch in _batches(letter for letter in letters if left_out.has_no_fault(letter, topics)):
            replay(backends.queue, batch)
            count += len(batch)
    result(as_json, {"replayed": count, "leftOut": left_out.count}, f"{count:,} replayed")
    return 1 if left_out.count else 0


class LeftOut:
    """Prints what is left out, with the reason; ``count`` of them. ``sign``: forged letters are not left out."""

    def __init__(self, *, sign: bool = False) -> None:
        self.count, self._sign = 0, sign

    def message(self, delivery: Delivery, reason: str) -> None:
        """Report a message that is no dead letter."""
        self._say(f"{delivery.topic}/{delivery.partition}/{delivery.offset} is no dead letter: {reason}")

    def has_no_fault(self, letter: DeadLetter, topics: Collection[str]) -> bool:
        """Whether the letter can be replayed; if not, report it."""
        reason = fault(letter, topics, sign=self._sign)
        if reason is not None:
            self._say(f"{letter.id} is not replayed: {reason}")
        return reason is None

    def _say(self, sentence: str) -> None:
        say(in_line(sentence))
        self.count += 1


def _find(queue: Queue, ids: Iterable[str]) -> list[DeadLetter]:
    """The dead letters with these ids; an error when one is missing. Other messages of the topic are ignored."""
    requested = set(ids)
    letters = [letter for letter in browse(queue, lambda *_: None) if letter.id in requested]
    missing = requested - {letter.id for letter in letters}
    if missing:
        raise click.ClickException(f"no dead letter has the id {', '.join(sorted(missing))}")
    return letters


def _batches(letters: Iterator[DeadLetter]) -> Iterator[list[DeadLetter]]:
    while batch := list(islice(letters, BATCH)):
        yield batch


def _document(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": letter.key,
        "at": instant(letter.at),
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
