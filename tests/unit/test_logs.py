"""What a line of the log holds."""

import json
import subprocess
import sys

PROGRAM = """
import structlog
from coupon.runtime import logs

logs.configure("info", "json")
log = structlog.get_logger("test")
log.info("alone", half="\\ud800", value=b"x")
logs.request_id.set("r-1")
log.warning("followed")
log.debug("not shown")
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
    alone, followed = lines(PROGRAM)
    assert alone.pop("timestamp") <= followed.pop("timestamp")
    assert alone == {"event": "alone", "level": "info", "half": "\ud800", "value": "b'x'"}
    assert followed == {"event": "followed", "level": "warning", "request_id": "r-1"}
