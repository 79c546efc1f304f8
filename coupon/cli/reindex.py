"""``coupon reindex``."""

import time

import click

from coupon.cli.screen import json_option, progress, result
from coupon.cli.session import session
from coupon.reindexing import reindex
from coupon.scanning import pages


@click.command("reindex", short_help="Build the search index anew.")
@json_option
def command(as_json: bool) -> None:
    """Build the search index anew from the store. The service may run meanwhile, and answers from the present index."""
    started = time.monotonic()
    with session() as (_, backends), progress("indexing", None) as indexed:
        count = reindex(pages(backends.store), backends.search, indexed)
    seconds = time.monotonic() - started
    result(as_json, {"indexed": count, "seconds": round(seconds, 3)}, f"{count:,} coupons indexed in {seconds:.1f} s")
