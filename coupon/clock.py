"""Time, decided in one place: a clock is any function that tells milliseconds since the epoch."""

import time
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from coupon.model import Day

Clock = Callable[[], int]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def day_of(milliseconds: int, zone: ZoneInfo) -> Day:
    """The day that it is at that instant in that time zone."""
    return Day(datetime.fromtimestamp(milliseconds / 1000, zone).date().isoformat())
