"""A thread for calls that may hang, so that whoever asks waits no longer than it wants to."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from coupon.domain.errors import BackendUnavailable

Result = TypeVar("Result")


class OwnThread:
    """Makes one call after the other. It starts with the first one, so that it may be made before a fork."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)

    def submit(self, call: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        """Raises BackendUnavailable when the process ends: threads of requests outlive the pools of threads."""
        try:
            return self._pool.submit(call, *arguments)
        except RuntimeError as error:
            raise BackendUnavailable("the process ends") from error
