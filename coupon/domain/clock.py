"""Clocks: functions that return milliseconds.

``now_ms`` counts from the epoch, for rules and records. ``monotonic_ms`` counts from some moment of this machine, for
durations."""

import time
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from coupon.domain.model import Day

Clock = Callable[[], int]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """For leases, pauses and waits: it never jumps when the clock is set. It means nothing on another machine."""
    return time.monotonic_ns() // 1_000_000


def day_of(milliseconds: int, zone: ZoneInfo) -> Day:
    """The day of an instant (milliseconds since the epoch) in a time zone."""
    return Day(datetime.fromtimestamp(milliseconds / 1000, zone).date().isoformat())
