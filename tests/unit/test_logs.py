"""What a line of the log holds."""

import json
import subprocess
import sys

PROGRAM = """
import structlog
from coupon.runtime import logs

logs.configure("info", "json")
log = structlog.get_logger("test")
log.info("alone", code="A", half="\\ud800", value=b"x")
logs.request_id.set("r-1")
log.warning("followed")
log.debug("not shown")
"""


def test_a_line_is_a_json_object_with_the_id_of_the_request_that_it_belongs_to():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, text=True)
    alone, followed = map(json.loads, done.stderr.splitlines())
    assert alone.pop("timestamp") <= followed.pop("timestamp")
    assert alone == {"event": "alone", "level": "info", "code": "A", "half": "\ud800", "value": "b'x'"}
    assert followed == {"event": "followed", "level": "warning", "request_id": "r-1"}
