"""An Idempotency-Key belongs to one request, whatever is lost: nobody is told applied for what was not done so."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from coupon.domain.errors import BackendUnavailable, TooManyCreations
from coupon.runtime.cache_entries import cache_key
from tests.web.conftest import Api
from tests.web.problems import refused

KEY = {"Idempotency-Key": "order-4711"}
REUSED = (422, "IDEMPOTENCY_KEY_REUSED")


@pytest.fixture
def codes(api, drain) -> list[str]:
    codes = api.create(amount=3).json["couponCodes"]
    drain()
    return codes


@pytest.mark.parametrize("other", [{"amount": 3}, {"first": "2026-11-02"}, {"last": "2027-06-30"}])
@pytest.mark.parametrize("applied", [False, True])
def test_a_key_of_a_creation_is_of_no_other_creation(api, drain, other, applied):
    first = api.create(amount=2, **KEY)
    if applied:
        drain()
    assert refused(api.create(**{"amount": 2, **other}, **KEY)) == REUSED
    assert api.create(amount=2, **KEY).json == first.json
    drain()
    assert api.get(first.headers["Location"]).json["status"] == "applied"


@pytest.mark.parametrize("other", [{"amount": 3}, {"first": "2026-11-02"}, {"last": "2027-06-30"}])
def test_with_the_cache_lost_another_creation_with_the_key_makes_coupons_of_its_own(api, drain, backends, other):
    """In its very words: never is one told applied for what the other one made."""
    first = api.create(amount=2, **KEY)
    backends.cache.lose_all()
    second = api.create(**{"amount": 2, **other}, **KEY)
    drain()
    assert not set(first.json["couponCodes"]) & set(second.json["couponCodes"])
    for answer, words in ((first, {}), (second, other)):
        assert api.get(answer.headers["Location"]).json["status"] == "applied"
        for code in answer.json["couponCodes"]:
            coupon = api.get(f"/v1/coupons/{code}").json
            assert coupon["validFrom"] == words.get("first", "2026-11-01")
            assert coupon["expireAt"] == words.get("last", "2026-11-30")


def test_a_key_of_one_coupon_is_of_no_other_coupon(api, codes):
    assert api.issue(codes[0], **KEY).status_code == 202
    assert refused(api.issue(codes[1], **KEY)) == REUSED


def test_a_key_of_a_command_is_of_no_other_command_or_user(api, codes):
    assert api.issue(codes[0], **KEY).status_code == 202
    assert refused(api.issue(codes[0], "bob", **KEY)) == REUSED
    assert refused(api.use(codes[0], **KEY)) == REUSED
    assert refused(api.create(**KEY)) == REUSED


def test_a_key_is_told_to_be_reused_before_a_rule_is(api, codes, drain):
    """Also by what would be refused for another reason, and for a coupon that is not there."""
    api.issue(codes[1], "eve")
    api.issue(codes[0], **KEY)
    drain()
    assert refused(api.issue(codes[1], **KEY)) == REUSED
    assert refused(api.issue("A" * 19, **KEY)) == REUSED


def test_a_request_that_was_refused_binds_no_key(api, codes):
    assert refused(api.use(codes[0], **KEY)) == (409, "NOT_ISSUED")
    assert refused(api.issue("A" * 19, **KEY)) == (404, "NOT_FOUND")
    assert api.issue(codes[0], **KEY).status_code == 202


def test_a_request_that_lost_the_race_and_is_refused_then_binds_no_key(api, codes, backends, monkeypatch):
    """Its key was bound already when somebody else reserved the coupon."""
    add, replace = backends.cache.add, backends.cache.replace

    def rival(key: str) -> None:
        if key == cache_key(codes[0].replace("-", "")):
            monkeypatch.setattr(backends.cache, "add", add)
            monkeypatch.setattr(backends.cache, "replace", replace)
            assert api.issue(codes[0], "bob").status_code == 202

    bind = backends.cache.add

    def binding(key, value, ttl_s):
        token = bind(key, value, ttl_s)
        if key.startswith("key:"):
            rival(cache_key(codes[0].replace("-", "")))
        return token

    monkeypatch.setattr(backends.cache, "add", binding)
    assert refused(api.issue(codes[0], **KEY)) == (409, "ALREADY_ISSUED")
    assert api.issue(codes[1], **KEY).status_code == 202


def test_a_retry_that_is_refused_leaves_the_key_to_the_request_that_bound_it(api, codes, backends, monkeypatch):
    """Nobody knows whether the first one was taken, so its words keep the key."""

    def unknown(messages):
        raise BackendUnavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(backends.queue, "publish", unknown)
        patch.setattr("coupon.acceptance.creation_limits.CreationLimits.admitted", lambda *_: nullcontext())
        assert refused(api.create(amount=2, **KEY)) == (503, "UNAVAILABLE")
    with monkeypatch.context() as patch:
        patch.setattr("coupon.acceptance.creation_limits.CreationLimits.admitted", too_many)
        assert refused(api.create(amount=2, **KEY)) == (429, "TOO_MANY_CREATIONS")
    assert refused(api.create(amount=3, **KEY)) == REUSED


def too_many(*_):
    raise TooManyCreations("enough")


def test_the_same_key_of_another_caller_is_another_key(api, codes):
    assert api.issue(codes[0], **KEY, **{"X-Caller": "one"}).status_code == 202
    assert api.issue(codes[1], **KEY, **{"X-Caller": "other"}).status_code == 202


def test_the_words_of_a_request_are_what_was_meant_and_not_how_it_was_written(api, codes):
    first = api.issue(codes[0], **KEY)
    again = api.issue(codes[0].replace("-", "").lower(), **KEY)
    assert (again.status_code, again.json) == (202, first.json)
    created = api.create(first="2026-11-01", **{"Idempotency-Key": "k"})
    assert api.create(first="20261101", **{"Idempotency-Key": "k"}).json == created.json


def test_of_fifty_requests_at_once_with_one_key_one_is_taken(app, api, drain):
    codes = api.create(amount=50).json["couponCodes"]
    drain()
    api.issue(codes[0], "warm")
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda code: Api(app.test_client()).issue(code, **KEY), codes[1:]))
    assert sorted(answer.status_code for answer in answers) == [202] + [422] * 48
    with ThreadPoolExecutor(16) as callers:
        creations = [
            callers.submit(lambda n=n: Api(app.test_client()).create(amount=n, **{"Idempotency-Key": "one"}))
            for n in range(1, 51)
        ]
    assert sorted(creation.result().status_code for creation in creations) == [202] + [422] * 49


def test_with_the_cache_lost_the_second_user_is_told_so_once_the_first_command_is_applied(api, codes, drain, backends):
    """Until then he is told to try again."""
    api.issue(codes[0], **KEY)
    backends.cache.lose_all()
    assert refused(api.issue(codes[0], "bob", **KEY)) == (503, "BUSY")
    drain()
    assert refused(api.issue(codes[0], "bob", **KEY)) == REUSED
    assert api.get(f"/v1/coupons/{codes[0]}").json["userId"] == "ann"


def test_an_operation_has_one_id_wherever_it_is_told(api, codes, drain):
    answer = api.issue(codes[0], **KEY)
    operation = answer.json["operationId"]
    assert answer.headers["Location"] == f"/v1/operations/{operation}"
    drain()
    outcome = api.get(f"/v1/operations/{operation}").json
    assert (outcome["operationId"], outcome["status"]) == (operation, "applied")
    born, issued = api.get(f"/v1/coupons/{codes[0]}").json["history"]
    assert issued["operationId"] == operation
    created = api.get(f"/v1/operations/{born['operationId']}").json
    assert (created["operationId"], created["status"], created["amount"]) == (born["operationId"], "applied", 3)
    assert api.issue(codes[0], **KEY).json["operationId"] == operation
