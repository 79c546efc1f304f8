"""``coupon reindex``."""

import time

import click

from coupon.bulk.reindex import reindex
from coupon.bulk.scan import pages
from coupon.cli.context import session
from coupon.cli.output import Unread, json_option, progress, result, with_retries


@click.command("reindex", short_help="Rebuild the search index.")
@json_option
def command(as_json: bool) -> int:
    """Rebuild the search index from the store. The service may run meanwhile, and queries the present index.

    Coupons that cannot be read are named by their codes, and the rest is indexed. The exit status is 1 then.
    """
    started, unread = time.monotonic(), Unread()
    with session() as (_, backends), progress("indexing", None) as indexed:
        count = reindex(pages(backends.store, unread, with_retries("store")), backends.search, indexed)
    seconds = time.monotonic() - started
    document = {"indexed": count, "unreadable": unread.count, "seconds": round(seconds, 3)}
    result(as_json, document, f"{count:,} coupons indexed in {seconds:.1f} s{unread.suffix()}")
    return 1 if unread.count else 0
