"""``coupon export``."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import click

from coupon.bulk.exporter import csv_writer, export, json_writer
from coupon.bulk.files import written
from coupon.bulk.scan import pages
from coupon.cli.context import session
from coupon.cli.output import Unread, json_option, progress, say, with_retries

BOM = "\ufeff"


@click.command("export", short_help="Write all coupons, as CSV or JSON.")
@click.argument("file", default="-")
@click.option("--force", is_flag=True, help="Replace FILE, if it is there.")
@click.option("--raw", is_flag=True, help="CSV for programs: a user's id like =1+1 is not escaped.")
@click.option("--bom", is_flag=True, help="CSV for Excel: with a byte order mark, by which it knows UTF-8.")
@json_option
def command(file: str, force: bool, raw: bool, bom: bool, as_json: bool) -> int:
    """Write all coupons to FILE, or to standard output: as CSV, or with --json as one JSON object a line.

    Only the owner can read FILE. In CSV, an apostrophe stands before what a spreadsheet would run as a formula, and
    `coupon import` takes it away.

    Coupons that change meanwhile are written as they were before or after. Coupons that cannot be read are named by
    their codes, and the rest is written. The exit status is 1 then.
    """
    if as_json and (raw or bom):
        raise click.UsageError("--raw and --bom are for CSV; JSON is always exact")
    unread = Unread()
    with session() as (_, backends), _opened(file, force) as out, progress("exporting", None) as exported:
        out.write(BOM if bom else "")
        write = json_writer(out) if as_json else csv_writer(out, raw)
        count = export(pages(backends.store, unread, with_retries("store")), write, exported)
        out.flush()
    say(f"{count:,} coupons exported{unread.suffix()}")
    return 1 if unread.count else 0


@contextmanager
def _opened(file: str, force: bool) -> Iterator[TextIO]:
    """The file to write to, in UTF-8 whatever the terminal has. SIGTERM and SIGHUP end as Ctrl-C does, so that
    no half of it is left."""
    if file == "-":
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)
    with written(Path(file), force) as out:
        yield out
