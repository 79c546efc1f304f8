"""Time, decided in one place. A clock is any function that tells milliseconds: ``now_ms`` since the epoch, for what is
told and decided; ``monotonic_ms`` since some moment of this machine, for how long something takes."""

import time
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from coupon.domain.model import Day

Clock = Callable[[], int]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """For leases, pauses and waits: it never jumps, whatever is done to the clock. It means nothing elsewhere."""
    return time.monotonic_ns() // 1_000_000


def day_of(milliseconds: int, zone: ZoneInfo) -> Day:
    """The day that it is at that instant in that time zone."""
    return Day(datetime.fromtimestamp(milliseconds / 1000, zone).date().isoformat())
