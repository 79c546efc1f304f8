"""Wait until a server is there again."""

import time
from collections.abc import Callable
from typing import Any

from coupon.domain.errors import BackendUnavailable


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def until_available(work: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while True:
        try:
            return work()
        except BackendUnavailable:
            assert time.monotonic() < deadline
