"""What commands print: results on standard output, all else on standard error; bars on a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from coupon.ports.backend import BackendUnavailable
from coupon.wire import dump

json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")


def result(as_json: bool, document: Any, sentence: str) -> None:
    """The command's result, as one JSON document or as text for people."""
    click.echo(dump(document) if as_json else sentence)


def say(sentence: str) -> None:
    """For people, whatever standard output is used for."""
    print(sentence, file=sys.stderr)  # not click.echo: a bar catches it here and draws itself below


def waiting_for(role: str) -> Callable[[BackendUnavailable], None]:
    """What to say when the backend of that role is away and waited for."""
    return lambda error: say(f"waiting for the {role}: {error}")


@contextmanager
def progress(what: str, total: int | None, unit: str = "coupons") -> Iterator[Callable[[int], None]]:
    """A bar, or a count where the total is not known; it is told how many are done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    number = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), number, TextColumn(unit), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
