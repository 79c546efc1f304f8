"""``coupon export``."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click

from coupon.bulk.exporter import csv_writer, export, json_writer
from coupon.bulk.scan import pages
from coupon.cli.context import session
from coupon.cli.output import Unread, json_option, progress, say


@click.command("export", short_help="Write all coupons, as CSV or JSON.")
@click.argument("file", default="-")
@json_option
def command(file: str, as_json: bool) -> int:
    """Write all coupons to FILE, or to standard output: as CSV, or with --json as one JSON object a line.

    Coupons that change meanwhile are written as they were before or after. Coupons that cannot be read are named by
    their codes, and the rest is written. The exit status is 1 then.
    """
    unread = Unread()
    with session() as (_, backends), _opened(file) as out, progress("exporting", None) as exported:
        count = export(pages(backends.store, unread), (json_writer if as_json else csv_writer)(out), exported)
        out.flush()
    say(f"{count:,} coupons exported{unread.suffix()}")
    return 1 if unread.count else 0


@contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    """The file to write to. A plain file gets its name once it is complete; a device or a pipe is written directly."""
    if file == "-":
        yield sys.stdout
        return
    target = os.path.realpath(file)
    is_plain = os.path.isfile(target) or not os.path.exists(target)
    written = f"{target}.part" if is_plain else target
    with open(written, "w", encoding="utf-8", newline="") as out:
        yield out
    if is_plain:
        os.replace(written, target)
