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
log.info("alone", half="\\ud800", value=b"x")
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
OF_A_MESSAGE = """
import structlog
from coupon.applying.batch import task
from coupon.ports.queue import Delivery
from coupon.runtime import logs

logs.configure("info", "json")
log = structlog.get_logger("test")
record_id = task(Delivery("commands", 3, 48, "k", b"")).record_id
log.error("dead letter", code="15BR0835OWXT4180EHZ", record_id=record_id, reason="of 15BR0835OWXT4180EHZ: no day")
log.error("dead letter", code=None, reason="nothing")
"""


def lines(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_code_and_the_id_of_a_message_are_found_as_operators_write_them():
    first, second = lines(OF_A_MESSAGE)
    assert (first["code"], first["record_id"]) == ("15BR0-835OWX-T4180EHZ", "commands/3/48")
    assert first["reason"] == "of 15BR0-835OWX-T4180EHZ: no day"
    assert (second["code"], second["reason"]) == (None, "nothing")


def test_a_line_is_a_json_object_with_the_id_of_the_request_that_it_belongs_to():
    alone, followed, traced, drivers = lines(PROGRAM)
    assert alone.pop("timestamp") <= followed.pop("timestamp")
    assert alone == {"event": "alone", "level": "info", "half": "\ud800", "value": "b'x'"}
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
