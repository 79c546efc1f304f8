"""A request's ``traceparent`` is followed into the queue, and through the lines of web and worker."""

import json

import pytest
from structlog.testing import capture_logs

from coupon.domain.errors import BackendUnavailable
from coupon.domain.model import Kind
from coupon.domain.serialization import decode_command, encode_command
from coupon.ports.queue import Message
from coupon.runtime import logs
from coupon.web import create_app
from tests.coupons import a_command
from tests.web.conftest import Api

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
OTHER = f"00-{'a' * 32}-{SPAN}-00"
KEY = {"Idempotency-Key": "order-1"}


@pytest.fixture
def environ(environ):
    return environ | {"COUPON_LOG_LEVEL": "info"}


def queued(backends):
    """The ``traceparent`` of each command, in order."""
    messages = [json.loads(d.value) for topic in ("creation", "commands") for d in backends.queue.browse(topic)]
    return [message["traceparent"] for message in messages]


def logged(lines, event):
    return [{name: line[name] for name in line if name.startswith("trace")} for line in lines if line["event"] == event]


def test_it_is_in_the_messages_and_in_the_lines_of_the_worker(api, backends, drain):
    with capture_logs() as lines:
        code = api.create(traceparent=PARENT).json["couponCodes"][0]
        drain()
        api.issue(code, traceparent=OTHER)
        drain()
    assert queued(backends) == [PARENT, OTHER]
    assert logged(lines, "created") == [{"trace_ids": [TRACE]}]
    assert logged(lines, "applied") == [{"trace_ids": ["a" * 32]}]


def test_a_command_that_was_applied_for_its_caller_is_followed_to_the_worker(api, code, drain):
    assert api.issue(code, traceparent=PARENT, prefer="wait=5").status_code == 200
    with capture_logs() as lines:
        drain()
    assert logged(lines, "applied") == [{"trace_ids": [TRACE]}]


def test_a_retry_that_goes_on_with_its_reservation_has_its_own(api, code, backends, monkeypatch):
    def fails(_messages):
        raise BackendUnavailable("no acknowledgement")

    with monkeypatch.context() as away:
        away.setattr(backends.queue, "publish", fails)
        assert api.issue(code, traceparent=PARENT, **KEY).status_code == 503
    assert api.issue(code, traceparent=OTHER, **KEY).status_code == 202
    assert queued(backends) == ["", OTHER]


def test_the_lines_of_the_request_have_it_and_no_later_one(settings, backends, code, capfd):
    api = Api(create_app(settings, backends).test_client())
    logs.configure("info", "json")
    api.issue(code, traceparent=PARENT)
    api.use(code)
    first, second = map(json.loads, capfd.readouterr().err.splitlines())
    assert (first["event"], first["trace_id"]) == ("accepted", TRACE)
    assert (second["event"], "trace_id" in second) == ("accepted", False)


def test_without_one_nothing_is_added(api, code, backends, drain):
    with capture_logs() as lines:
        api.issue(code)
        drain()
    assert queued(backends) == ["", ""]
    assert logged(lines, "applied") == [{}]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (PARENT, PARENT),
        (f"cc{PARENT[2:]}", PARENT),
        (f"cc{PARENT[2:]}-what-comes-later", PARENT),
        (f"{PARENT}-what-comes-later", ""),
        (f"ff{PARENT[2:]}", ""),
        (PARENT.upper(), ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE}-{SPAN}", ""),
        ("", ""),
    ],
)
def test_what_is_none_is_as_good_as_not_there(api, backends, given, taken):
    assert api.create(traceparent=given).status_code == 202
    assert queued(backends) == [taken]


@pytest.mark.logs_error("dead letter")
def test_a_rejected_command_and_a_dead_letter_name_it(api, code, backends, drain):
    api.issue(code, traceparent=PARENT)
    (message,) = backends.queue.browse("commands")
    rival = decode_command(message.value)._replace(operation="rival", traceparent=OTHER)
    nowhere = a_command(Kind.USE, "u", code="Z" * 19, traceparent=PARENT)
    backends.queue.publish([Message("commands", each.code, encode_command(each)) for each in (rival, nowhere)])
    with capture_logs() as lines:
        drain()
    assert logged(lines, "rejected") == [{"trace_id": "a" * 32}]
    assert logged(lines, "dead letter") == [{"trace_id": TRACE}]
