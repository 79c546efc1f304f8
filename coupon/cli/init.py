"""``coupon init``."""

import time

import click

from coupon.cli.context import session, wait_option
from coupon.cli.output import json_option, result, say, waiting_for
from coupon.domain.topics import all_topics
from coupon.runtime.diagnostics import stranded
from coupon.runtime.retry import retry_until


@click.command("init", short_help="Make the tables, the topics and the index, or bring them up to date.")
@wait_option("How long to wait for servers that are just starting.")
@json_option
def command(wait_s: float, as_json: bool) -> None:
    """Make the missing tables, topics and index, and migrate those of earlier versions. No data is lost, and running it
    again changes nothing."""
    deadline = time.monotonic() + wait_s
    with session(initialize=True) as (settings, backends):
        topics = all_topics(settings.topics)
        store, queue, search = (backends.urls[f"COUPON_{role}_URL"] for role in ("STORE", "QUEUE", "SEARCH"))
        retry_until(deadline, backends.store.create, waiting_for("store"))
        retry_until(deadline, lambda: backends.queue.create(topics), waiting_for("queue"))
        retry_until(deadline, backends.search.create, waiting_for("search"))
        for stray in stranded(backends.queue, settings.topics):
            say(stray)
    sentence = f"the table at {store},\nthe topics {', '.join(topics)} at {queue}\nand the index at {search} are there"
    result(as_json, {"store": store, "queue": queue, "topics": topics, "search": search}, sentence)
