"""Backends that fail on demand, at any of their methods: what a driver's edge does when its server is away."""

from collections.abc import Callable
from typing import Any

from coupon.ports.backend import BackendUnavailable


class Faulty:
    """Stands before a backend. ``fail[method]`` holds what to do at its next calls: an error to raise before the call
    (``before``), one to raise after it was applied (``after``: a lost reply), or None to let it pass."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.before: dict[str, list[Exception | None]] = {}
        self.after: dict[str, list[Exception | None]] = {}
        self.down = False
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._backend, name)
        return self._guarded(name, value) if callable(value) else value

    def _guarded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self.down:
                raise BackendUnavailable(f"{name}: down")
            _raise_next(self.before.get(name))
            answer = method(*args, **kwargs)
            _raise_next(self.after.get(name))
            return answer

        return call


def _raise_next(errors: list[Exception | None] | None) -> None:
    error = errors.pop(0) if errors else None
    if error is not None:
        raise error


def away() -> BackendUnavailable:
    return BackendUnavailable("injected")
