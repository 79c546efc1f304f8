"""Output of commands: results on standard output, the rest on standard error, progress bars on a terminal only."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from coupon.domain.codes import show
from coupon.domain.errors import BackendUnavailable, fault
from coupon.domain.serialization import dump
from coupon.runtime.retry import Result, Retrying, retry_for

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a terminal's cursor, change its colours or reverse its text, or cannot be encoded.

Tabs and ends of lines are not among them: our own sentences have some. ``in_line`` escapes those, too."""
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")


def result(as_json: bool, document: Any, sentence: str) -> None:
    """Print the command's result, as one JSON document or as text for people."""
    click.echo(dump(document) if as_json else printable(sentence))


def say(sentence: str) -> None:
    """Print a sentence for people, on standard error."""
    print(printable(sentence), file=sys.stderr)  # not click.echo: a bar catches it here and draws itself below


def printable(text: str) -> str:
    """The text with control characters escaped: much of what is printed was written by others."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def in_line(text: str) -> str:
    """As ``printable``, on one line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class Unread:
    """Prints the rows that cannot be read as coupons; ``count`` of them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, unreadable: Mapping[str, str]) -> None:
        for code, reason in unreadable.items():
            say(in_line(fault(show(code), reason)))
        self.count += len(unreadable)

    def suffix(self) -> str:
        """For the end of a sentence."""
        return f"; {self.count:,} cannot be read" if self.count else ""


def waiting_for(role: str) -> Callable[[BackendUnavailable], None]:
    """A function that reports that the command waits for the backend of that role."""
    return lambda error: say(f"waiting for the {role}: {error}")


def with_retries(role: str) -> Retrying:
    """Retries a step while the backend of that role is unavailable, and reports that the command waits."""

    def retrying(step: Callable[[], Result], /) -> Result:
        return retry_for(step, waiting_for(role))

    return retrying


@contextmanager
def progress(what: str, total: int | None, unit: str = "coupons") -> Iterator[Callable[[int], None]]:
    """A bar with the time left, or a count where the ``total`` is not known. Yields a function that takes the number of
    units done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    if total is None:
        columns = [TextColumn(f"{{task.completed:,}} {unit}"), TimeElapsedColumn()]
    else:
        count = DownloadColumn() if unit == "bytes" else TextColumn(f"{{task.completed:,}} of {{task.total:,}} {unit}")
        columns = [BarColumn(), count, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("left")]
    with Progress(TextColumn(what), *columns, console=Console(stderr=True), redirect_stdout=False) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
