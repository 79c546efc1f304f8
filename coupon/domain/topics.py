"""Which topic a command goes to: the layout.

Creations have a topic of their own, ``creation``, which workers read after the rest. Changes of coupons share one topic
(the default), or have one each for issue, use and cancel."""

from collections.abc import Mapping

from coupon.domain.model import Kind

GROUP = "worker"
"""The consumer group of all workers."""
REINDEX = "reindex"
"""Codes whose documents have to be indexed again, because search was unavailable when the coupons changed."""
INVALIDATE = "invalidate"
"""Codes whose cache entries are to be checked, because the cache was unavailable when they were found to be wrong."""
OUTBOX = (REINDEX, INVALIDATE)
DEAD_LETTERS = "dead-letters"
"""Messages that can never be applied, with the reason."""
REJECTIONS = "rejections"
"""Lost attempts: see ``coupon/applying/lost_attempts.py``."""

CREATION = "creation"
"""Creations, in every layout: changes do not wait behind them."""

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


def is_ordered(layout: str) -> bool:
    """Whether one topic carries all changes of a coupon, in their order."""
    return len(set(LAYOUTS[layout].values()) - {CREATION}) == 1


def work_topics(layout: str) -> list[str]:
    """The topics that workers read."""
    return [*command_topics(layout), *OUTBOX]


def all_topics(layout: str) -> list[str]:
    """The topics that ``coupon init`` makes."""
    return [*work_topics(layout), REJECTIONS, DEAD_LETTERS]
