"""``coupon lag``."""

import click

from coupon.cli.screen import json_option, result
from coupon.cli.session import session
from coupon.topics import GROUP, OWED, command_topics


@click.command(short_help="How much the workers have still to do.")
@json_option
def command(as_json: bool) -> None:
    """The number of messages of each topic that no worker has carried out yet. A creation of many coupons is a message
    for 500 of them."""
    with session() as (settings, backends):
        lags = {topic: backends.queue.lag([topic], GROUP) for topic in [*command_topics(settings.topics), *OWED]}
    result(as_json, lags, "\n".join(f"{topic:<12} {lag:>9,}" for topic, lag in lags.items()))
