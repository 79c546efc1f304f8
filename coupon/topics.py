"""Which topic a command goes to: one for all (the default), or one each for creation, issue, use and cancel."""

from collections.abc import Mapping

from coupon.model import Kind

REINDEX = "reindex"
"""Codes whose documents have to be indexed again, because search was away when they changed."""
INVALIDATE = "invalidate"
"""Codes whose cache entries have to be looked at, because the cache was away when they turned out to be wrong."""
OWED = (REINDEX, INVALIDATE)
DEAD_LETTERS = "dead-letters"
"""Messages that can never be carried out, with the reason."""

LAYOUTS: Mapping[str, Mapping[Kind, str]] = {
    "single": dict.fromkeys(Kind, "commands"),
    "per-command": {
        Kind.CREATE: "creation",
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
