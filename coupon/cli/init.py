"""``coupon init``."""

import time
from collections.abc import Callable

import click

from coupon.cli.screen import json_option, result, say
from coupon.cli.session import session
from coupon.ports.backend import BackendUnavailable
from coupon.ports.url import Url
from coupon.topics import all_topics

PAUSE_S = 0.5


@click.command("init", short_help="Make the table, the topics and the index.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=30,
    metavar="SECONDS",
    show_default=True,
    help="How long to wait for servers that are just starting.",
)
@json_option
def command(wait_s: float, as_json: bool) -> None:
    """Make the table, the topics and the index, those that are missing. Nothing that is there is changed."""
    deadline = time.monotonic() + wait_s
    with session() as (settings, backends):
        topics = all_topics(settings.topics)
        store, queue, search = (str(Url(url)) for url in (settings.store_url, settings.queue_url, settings.search_url))
        _until(deadline, "store", backends.store.create)
        _until(deadline, "queue", lambda: backends.queue.create(topics))
        _until(deadline, "search", backends.search.create)
    sentence = f"the table at {store},\nthe topics {', '.join(topics)} at {queue}\nand the index at {search} are there"
    result(as_json, {"store": store, "queue": queue, "topics": topics, "search": search}, sentence)


def _until(deadline: float, role: str, create: Callable[[], None]) -> None:
    """Try until it works or the deadline has passed."""
    told = False
    while True:
        try:
            return create()
        except BackendUnavailable as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                say(f"waiting for the {role}: {error}")
                told = True
            time.sleep(PAUSE_S)
