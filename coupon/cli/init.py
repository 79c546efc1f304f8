"""``coupon init``."""

import time
from pathlib import Path

import click

from coupon.bulk import upgraded_queue
from coupon.cli.context import session, wait_option
from coupon.cli.output import json_option, result, say, waiting_for
from coupon.domain.topics import all_topics
from coupon.runtime.diagnostics import stranded
from coupon.runtime.keyring import keys_of, read_file
from coupon.runtime.retry import retry_until
from coupon.runtime.settings import Settings
from coupon.runtime.signed_queue import SignedQueue
from coupon.runtime.wiring import Backends


@click.command("init", short_help="Make the tables, the topics and the index, or bring them up to date.")
@wait_option("How long to wait for servers that are just starting.")
@click.option(
    "--take-unsigned",
    is_flag=True,
    help="While web processes of a version that signs no messages still run; without it when they have stopped.",
)
@click.option(
    "--new-secret", is_flag=True, help="Where COUPON_SECRET was lost: messages that it signed are forged then."
)
@json_option
def command(wait_s: float, take_unsigned: bool, new_secret: bool, as_json: bool) -> None:
    """Make the missing tables, topics and index, and migrate those of earlier versions. No data is lost, and running it
    again changes nothing.

    Messages that are in the queue by then may be unsigned, and later ones may not.
    """
    deadline = time.monotonic() + wait_s
    with session(initialize=True) as (settings, backends):
        topics = all_topics(settings.topics)
        store, queue, search = (backends.urls[f"COUPON_{role}_URL"] for role in ("STORE", "QUEUE", "SEARCH"))
        retry_until(deadline, backends.store.create, waiting_for("store"))
        retry_until(deadline, lambda: backends.queue.create(topics), waiting_for("queue"))
        retry_until(deadline, backends.search.create, waiting_for("search"))
        for stray in stranded(backends.queue, settings.topics):
            say(stray)
        unsigned = _settle(settings, backends, take_unsigned=take_unsigned, new_secret=new_secret)
    sentence = f"the table at {store},\nthe topics {', '.join(topics)} at {queue}\nand the index at {search} are there"
    document = {"store": store, "queue": queue, "topics": topics, "search": search, "unsigned": unsigned}
    result(as_json, document, sentence)


def _settle(settings: Settings, backends: Backends, *, take_unsigned: bool, new_secret: bool) -> int | None:
    """How many offsets may hold unsigned messages; None without a bound."""
    assert isinstance(backends.queue, SignedQueue)  # noqa: S101 - of wiring.py
    path = Path(settings.keyring_file) if settings.keyring_file else None
    keys = keys_of(settings.secret, read_file(path))
    unsigned = upgraded_queue.settle(
        backends.queue, backends.store, keys, take_unsigned=take_unsigned, new_secret=new_secret
    )
    if unsigned is None:
        say("messages are taken unsigned: run coupon init again when no earlier version runs any more")
    elif unsigned:
        say(f"up to {unsigned:,} messages of earlier versions are taken unsigned, and none that comes later")
    return unsigned
