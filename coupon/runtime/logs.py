"""Structured logs on standard error: one JSON object a line, or text for people (``COUPON_LOG_FORMAT``)."""

import json
import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from coupon.domain.codes import LENGTH, is_code, show

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request in progress. It is read by itself: structlog's own processor looks at the whole context, which
takes a quarter of the time of a log line."""
_CODE = re.compile(rf"\b[A-Z0-9]{{{LENGTH}}}\b")
traceparent: ContextVar[str] = ContextVar("traceparent", default="")
"""That of the request in progress (W3C Trace Context); empty without one."""
TRACE_ID = slice(3, 35)
"""The part of a ``traceparent`` that a trace's requests share."""
DRIVERS = ("kafka", "elastic_transport", "elasticsearch", "botocore", "pynamodb", "pymongo", "urllib3")


def configure(level: str, form: str) -> None:
    """Set up logging of this process. Of drivers only errors are shown: our own warnings cover the rest."""
    as_json = form == "json"
    renderer = structlog.processors.JSONRenderer(_line) if as_json else structlog.dev.ConsoleRenderer(colors=False)
    printed, written = structlog.PrintLoggerFactory(sys.stderr), structlog.BytesLoggerFactory(sys.stderr.buffer)
    structlog.configure(
        processors=[
            _with_request,
            _as_operators_write,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=written if as_json else printed,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=level.upper())
    for driver in DRIVERS:
        logging.getLogger(driver).setLevel(logging.CRITICAL)


def trace(traceparent: str) -> dict[str, str]:
    """The field of a line about one command; none without a ``traceparent``."""
    return {"trace_id": traceparent[TRACE_ID]} if traceparent else {}


def traces(traceparents: Iterable[str]) -> dict[str, list[str]]:
    """The field of a line about several commands; none when none of them has a ``traceparent``."""
    ids = {traceparent[TRACE_ID] for traceparent in traceparents if traceparent}
    return {"trace_ids": sorted(ids)} if ids else {}


class JsonFormatter(logging.Formatter):
    """A line of another library (gunicorn, a driver) as a JSON object. The ``event`` is the library's name."""

    def format(self, record: logging.LogRecord) -> str:
        library, at = record.name.partition(".")[0], datetime.fromtimestamp(record.created, UTC)
        return line(library, super().format(record), record.levelname.lower(), at)


def line(event: str, message: str, level: str = "info", at: datetime | None = None) -> str:
    """A line of a program that does not log by structlog."""
    instant = (at or datetime.now(UTC)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return _line({"event": event, "message": message, "level": level, "timestamp": instant}).decode()


def _with_request(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if (current := request_id.get()) is not None:
        event["request_id"] = current
    if parent := traceparent.get():
        event["trace_id"] = parent[TRACE_ID]
    return event


def _as_operators_write(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Codes get their dashes, as customers and HTTP write them, and a ``record_id`` is written as a dead letter's id. A
    search by either finds the line."""
    if isinstance(code := event.get("code"), str) and is_code(code):
        event["code"] = show(code)
    for field in ("reason", "error"):
        if isinstance(text := event.get(field), str):
            event[field] = _CODE.sub(lambda found: show(found[0]), text)
    if isinstance(record_id := event.get("record_id"), tuple):
        (topic, partition), offset = record_id
        event["record_id"] = f"{topic}/{partition}/{offset}"
    return event


def _line(event: dict[str, Any], **_: Any) -> bytes:
    try:
        return _ENCODER.encode(event)
    except ValueError:  # half a character, which UTF-8 cannot carry: escaped
        return json.dumps(event, default=repr).encode()


_ENCODER = msgspec.json.Encoder(enc_hook=repr)
