"""A parameter that an address does not have is refused, and never ignored: the answer would be another one than was
asked for."""

import pytest

from tests.web.problems import problem, wrong_fields
from tests.web.test_schemathesis import OPERATIONS, TAKE_ANYTHING

QUESTIONS = ["/v1/coupons/expired/today", "/v1/users/ann/coupons", "/v1/operations/{operation}"]


def ask(api, method, path, query):
    """The answer to a request that is fit but for its query."""
    place = path.format(code="A" * 19, user_id="ann", address="x")
    body = {"couponCode": "A" * 19} | ({"userId": "ann"} if path.endswith("issue") else {})
    if path == "/v1/coupons":
        body = {"amount": 1, "validFrom": "2026-11-01", "expireAt": "2026-11-30"}
    return api.client.open(f"{place}?{query}", method=method, json=body if method != "GET" else None)


WITHOUT_A_TOKEN = [each for each in OPERATIONS if each[1] not in {*TAKE_ANYTHING, "/v1/me/coupons"}]


@pytest.mark.parametrize(("method", "path"), WITHOUT_A_TOKEN)
def test_an_unknown_parameter_is_refused_by_its_name_at_every_address(api, method, path):
    for query, named in (("used=false", "used"), ("limits", "limits"), ("%C3%A9=", "é"), ("=1", "")):
        assert wrong_fields(ask(api, method, path, query)) == {named}
    assert wrong_fields(ask(api, method, path, "Limit=1&couponCode=x&Limit=2")) == {"Limit", "couponCode"}


def test_a_command_that_was_refused_for_a_parameter_was_not_taken(api, code, drain):
    asked = {"couponCode": code, "userId": "ann"}
    assert wrong_fields(api.client.put("/v1/coupons/issue?dryRun=true", json=asked)) == {"dryRun"}
    drain()
    assert api.get(f"/v1/coupons/{code}").json["issued"] is False


@pytest.mark.parametrize("path", QUESTIONS)
@pytest.mark.parametrize("made", ["a creation", "a change"])
def test_a_parameter_is_given_once_and_none_need_be(api, code, path, made):
    answer = api.create() if made == "a creation" else api.issue(code)
    place = path.format(operation=answer.headers["Location"].rpartition("/")[2])
    for query in ("?", "?limit=10", "?&", "?&limit=10&"):
        assert api.get(place + query).status_code == 200
    for query, named in (("limit=10&limit=10", "limit"), ("cursor=x&limit=1&cursor=x", "cursor"), ("limit=x", "limit")):
        assert wrong_fields(api.get(f"{place}?{query}")) == {named}


def test_the_problem_says_whether_a_parameter_is_unknown_or_given_twice(api):
    errors = problem(api.get("/v1/coupons/expired/today?used=false&limit=1&limit=2"))["errors"]
    assert errors == {"used": ["Unknown parameter."], "limit": ["Given more than once."]}


@pytest.mark.parametrize("path", TAKE_ANYTHING)
def test_a_probe_may_append_what_it_likes(api, path):
    assert api.get(f"{path}?_=1795000000&verbose").status_code == 200
