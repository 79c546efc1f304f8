"""``coupon dead-letters``."""

import base64
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import click

from coupon.cli.screen import json_option, result, say
from coupon.cli.session import session
from coupon.dead_letters import DeadLetter, browse, replay
from coupon.ports.queue import Queue
from coupon.wire import instant

BATCH = 500


@click.group("dead-letters", short_help="Look at failed messages, replay them.")
def command() -> None:
    """Messages that could never be carried out: look at them, and replay them once the cause is gone.

    Letters stay listed after they were replayed. What is carried out already is recognised, and not done again.
    """


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """All letters: id, when, and why. With --json one object a line."""
    count = 0
    with session() as (_, backends):
        for count, letter in enumerate(browse(backends.queue), 1):  # noqa: B007 - told below
            result(as_json, _document(letter), f"{letter.id}  {instant(letter.at)}  {letter.reason}")
    say(f"{count:,} dead letters")


@command.command()
@click.argument("letter_id", metavar="ID")
@json_option
def show(letter_id: str, as_json: bool) -> None:
    """One letter, with the message as it was."""
    with session() as (_, backends):
        letter = _find(backends.queue, [letter_id])[0]
    lines = [f"{name:<10}{value}" for name, value in _document(letter).items() if name != "valueBase64"]
    result(as_json, _document(letter), "\n".join(lines[:-1]) + f"\n\n{_readable(letter.value)}")


@command.command("replay")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All letters there are.")
@json_option
def replay_(ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Publish letters again where they came from."""
    if bool(ids) == every:
        raise click.UsageError("give the ids of letters, or --all")
    count = 0
    with session() as (_, backends):
        letters = browse(backends.queue) if every else iter(_find(backends.queue, ids))
        for batch in _batches(letters):
            replay(backends.queue, batch)
            count += len(batch)
    result(as_json, {"replayed": count}, f"{count:,} replayed")


def _find(queue: Queue, ids: Iterable[str]) -> list[DeadLetter]:
    """The letters with these ids, all of them, or an error."""
    wanted = set(ids)
    found = [letter for letter in browse(queue) if letter.id in wanted]
    missing = wanted - {letter.id for letter in found}
    if missing:
        raise click.ClickException(f"no dead letter has the id {', '.join(sorted(missing))}")
    return found


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
        "valueBase64": base64.b64encode(letter.value).decode(),
        "value": letter.value.decode(errors="backslashreplace"),
    }


def _readable(value: bytes) -> str:
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=False)
    except ValueError:
        return value.decode(errors="backslashreplace")
