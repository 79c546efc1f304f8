"""A coupon whose row in the store cannot be read: its callers are told so, and nobody else notices."""

import pytest
import structlog
from structlog.testing import capture_logs

from coupon.web import problems
from tests.web.problems import refused

CALLS = {
    "the coupon": lambda api, code: api.get(f"/v1/coupons/{code}"),
    "an issue": lambda api, code: api.issue(code),
    "a use": lambda api, code: api.use(code),
}


@pytest.mark.logs_error("unreadable")
@pytest.mark.parametrize("call", CALLS)
def test_its_callers_are_told_and_the_operator_reads_its_code(api, code, backends, call, monkeypatch):
    stored = code.replace("-", "")
    backends.store.spoil(stored)
    monkeypatch.setattr(problems, "log", structlog.get_logger())
    with capture_logs() as lines:
        assert refused(CALLS[call](api, code)) == (500, "UNREADABLE")
    [line] = [line for line in lines if line["event"] == "unreadable"]
    assert (line["log_level"], line["code"], line["error"]) == ("error", stored, "spoiled")


@pytest.mark.logs_error("unreadable")
def test_the_outcome_of_its_commands_is_not_known_until_it_is_mended(api, code, backends, drain):
    stored = code.replace("-", "")
    place = api.issue(code).headers["Location"]
    drain()
    backends.store.spoil(stored)
    assert refused(api.get(place)) == (500, "UNREADABLE")
    backends.store.mend(stored)
    assert api.get(place).json["status"] == "applied"


@pytest.mark.logs_error("unreadable")
def test_who_waits_for_an_outcome_is_told_that_the_command_was_accepted(api, code, backends):
    api.issue(code)  # in the cache now
    backends.store.spoil(code.replace("-", ""))
    answer = api.use(code, Prefer="wait=1")
    assert (answer.status_code, answer.json["status"]) == (202, "accepted")


def test_nobody_else_notices(api, drain, backends):
    spoilt, other = api.create(2).json["couponCodes"]
    drain()
    backends.store.spoil(spoilt.replace("-", ""))
    assert api.issue(other).status_code == 202
    drain()
    assert api.get(f"/v1/coupons/{other}").json["userId"] == "ann"
    assert [item["couponCode"] for item in api.get("/v1/users/ann/coupons").json["items"]] == [other]
