"""Which topic a command goes to. Creations have one of their own, which waits for its turn; the changes of coupons have
one together (the default), or one each for issue, use and cancel."""

from collections.abc import Mapping

from coupon.domain.model import Kind

GROUP = "worker"
"""The consumer group of all workers."""
REINDEX = "reindex"
"""Codes whose documents have to be indexed again, because search was away when they changed."""
INVALIDATE = "invalidate"
"""Codes whose cache entries have to be looked at, because the cache was away when they turned out to be wrong."""
OUTBOX = (REINDEX, INVALIDATE)
DEAD_LETTERS = "dead-letters"
"""Messages that can never be applied, with the reason."""
REJECTIONS = "rejections"
"""Which attempts lost, where several topics carry a coupon's commands: see ``losers``."""

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


def is_ordered(layout: str) -> bool:
    """Whether one topic carries all changes of a coupon, in their order."""
    return len(set(LAYOUTS[layout].values()) - {CREATION}) == 1


def work_topics(layout: str) -> list[str]:
    """What workers take messages from."""
    return [*command_topics(layout), *OUTBOX]


def all_topics(layout: str) -> list[str]:
    """What ``coupon init`` makes."""
    return [*work_topics(layout), *([] if is_ordered(layout) else [REJECTIONS]), DEAD_LETTERS]
