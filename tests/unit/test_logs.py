"""What a line of the log holds."""

import json
import subprocess
import sys

import pytest

from coupon.runtime.settings import log_format

PROGRAM = """
import structlog
from coupon.runtime import logs

logs.configure("info", "json")
log = structlog.get_logger("test")
log.info("alone", code="A", half="\\ud800", value=b"x")
logs.request_id.set("r-1")
log.warning("followed")
log.debug("not shown")
logs.traceparent.set("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
log.warning("traced")
import logging
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("kafka.client").critical("a driver's", exc_info=True)
"""


def test_a_line_is_a_json_object_with_the_id_of_the_request_that_it_belongs_to():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, text=True)
    alone, followed, traced, drivers = map(json.loads, done.stderr.splitlines())
    assert alone.pop("timestamp") <= followed.pop("timestamp")
    assert alone == {"event": "alone", "level": "info", "code": "A", "half": "\ud800", "value": "b'x'"}
    assert followed == {"event": "followed", "level": "warning", "request_id": "r-1"}
    assert traced["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert traced["timestamp"] <= drivers["timestamp"]
    assert (drivers["event"], drivers["level"]) == ("kafka", "critical")
    assert drivers["message"].startswith("a driver's\nTraceback")
    assert drivers["message"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "json"),
        ({"COUPON_LOG_FORMAT": "text"}, "text"),
        ({"COUPON_LOG_FORMAT": "xml"}, "json"),
        ({"COUPON_CONF": "/no/where", "COUPON_LOG_FORMAT": "text"}, "json"),
    ],
)
def test_the_format_is_known_also_where_the_settings_are_wrong(environ, expected):
    assert log_format(environ) == expected
