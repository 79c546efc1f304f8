"""Errors that are logged while a test runs: by structlog, whatever is configured, and by the standard library."""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

LEVELS = {"error", "exception", "critical", "fatal"}
DRIVERS = {"kafka"}
"""Loggers of drivers that log as an error what they also raise or tell otherwise: that a server is unavailable."""


class ErrorLog(logging.Handler):
    """The events of the errors, in order. What the configured level leaves out is not seen."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._events: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in DRIVERS:
            self._events.append(record.getMessage())

    def clear(self) -> None:
        self._events.clear()

    def other_than(self, expected: Collection[str]) -> list[str]:
        """The other events, each once."""
        return [event for event in dict.fromkeys(self._events) if event not in expected]

    @contextmanager
    def listening(self) -> Iterator[None]:
        original = structlog.BoundLoggerBase._proxy_to_logger

        def listened(logger: Any, method: str, event: Any = None, /, *args: Any, **fields: Any) -> Any:
            if method in LEVELS:
                self._events.append(str(event))
            return original(logger, method, event, *args, **fields)

        structlog.BoundLoggerBase._proxy_to_logger = listened  # type: ignore[method-assign]
        logging.getLogger().addHandler(self)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(self)
            structlog.BoundLoggerBase._proxy_to_logger = original  # type: ignore[method-assign]
