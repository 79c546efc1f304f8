"""Which topic a command goes to. Creations have one of their own, which waits for its turn; the changes of coupons have
one together (the default), or one each for issue, use and cancel."""

from collections.abc import Mapping

from coupon.model import Kind

GROUP = "worker"
"""The consumer group of all workers."""
REINDEX = "reindex"
"""Codes whose documents have to be indexed again, because search was away when they changed."""
INVALIDATE = "invalidate"
"""Codes whose cache entries have to be looked at, because the cache was away when they turned out to be wrong."""
OWED = (REINDEX, INVALIDATE)
DEAD_LETTERS = "dead-letters"
"""Messages that can never be carried out, with the reason."""

CREATION = "creation"
"""Creations, in every layout: commands do not wait behind them."""

LAYOUTS: Mapping[str, Mapping[Kind, str]] = {
    "single": dict.fromkeys(Kind, "commands") | {Kind.CREATE: CREATION},
    "per-command": {
        Kind.CREATE: CREATION,
        Kind.ISSUE: "issue",
        Kind.USE: "use",
        Kind.CANCEL: "cancel",
        Kind.CANCEL_USE: "cancel",
    },
}


def command_topics(layout: str) -> list[str]:
    """The layout's command topics, each once."""
    return list(dict.fromkeys(LAYOUTS[layout].values()))


def all_topics(layout: str) -> list[str]:
    """What ``coupon init`` makes."""
    return [*command_topics(layout), *OWED, DEAD_LETTERS]
