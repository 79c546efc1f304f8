"""Rates, and the guard against guesses."""

import dataclasses

import pytest

from coupon.domain.api_keys import Role
from coupon.domain.codes import CodeDeriver
from coupon.web import create_app
from coupon.web.throttle import client_address
from tests.web.conftest import Api
from tests.web.problems import refused
from tests.web.test_access import add_key

MINUTE_MS = 60_000


def codes(number):
    """Of no coupon."""
    return list(CodeDeriver("the secret of another service").codes("x", 0, number))


@pytest.fixture
def service(settings, backends, clock, timer):
    """Makes another process of the service."""

    def make(**chosen):
        chosen = {"guesses_per_minute": 20} | chosen
        return Api(create_app(dataclasses.replace(settings, **chosen), backends, clock, timer).test_client())

    return make


def guess(api, number, **headers):
    return [api.client.get(f"/v1/coupons/{code}", headers=headers).status_code for code in codes(number)]


def test_after_twenty_unknown_codes_in_a_minute_a_caller_is_refused(service):
    assert guess(service(), 30) == [404] * 21 + [429] * 9


@pytest.mark.parametrize("command", ["issue", "use", "cancel", "cancel-use"])
def test_a_command_on_an_unknown_code_is_a_guess_too(service, command):
    api = service()
    for code in codes(21):
        body = {"couponCode": code} | ({"userId": "ann"} if command == "issue" else {})
        api.client.put(f"/v1/coupons/{command}", json=body)
    answer = api.get(f"/v1/coupons/{codes(1)[0]}")
    assert refused(answer) == (429, "TOO_MANY_GUESSES")
    assert answer.headers["Retry-After"] == "60"


def test_a_slow_caller_is_not_refused(service, clock):
    api = service()
    for _ in range(5):
        assert guess(api, 20) == [404] * 20
        clock.ms += MINUTE_MS


def test_a_caller_is_refused_for_longer_each_time(service, clock):
    api, refused_s = service(), []
    for _ in range(8):
        guess(api, 21)
        refused_s.append(int(api.get("/v1/users/ann/coupons").headers["Retry-After"]))
        clock.ms += refused_s[-1] * 1_000
        assert api.get("/v1/users/ann/coupons").status_code == 200
    assert refused_s == [60, 120, 240, 480, 960, 1_920, 3_600, 3_600]


def test_another_process_refuses_the_caller_at_its_next_guess(service):
    guess(service(), 21)
    assert guess(service(), 3) == [404, 429, 429]


def test_processes_count_together(service):
    one, other = service(), service()
    assert guess(one, 10) + guess(other, 10) == [404] * 20
    assert guess(one, 2) == [404, 429]


@pytest.mark.parametrize("lost", ["cache lost", "cache away"])
def test_without_the_cache_a_process_counts_by_itself(service, backends, lost):
    api = service()
    guess(api, 10)
    if lost == "cache away":
        backends.cache.close()
    else:
        backends.cache.lose_all()
    assert 429 in guess(api, 22)


def test_a_guess_with_a_key_of_another_request_counts_too(service):
    api = service()
    api.create(**{"Idempotency-Key": "k1"})
    statuses = [api.issue(code, **{"Idempotency-Key": "k1"}).status_code for code in codes(30)]
    assert set(statuses) <= {404, 422, 429}
    assert statuses[-1] == 429


def test_a_caller_pays_for_its_own_guesses_only(service, backends):
    api = service()
    one, other = add_key(backends, "one", Role.ADMIN), add_key(backends, "other", Role.ADMIN)
    assert guess(api, 22, **one)[-1] == 429
    assert guess(api, 1, **other) == [404]


def test_callers_without_a_name_are_told_apart_by_their_addresses(service):
    api, caller = service(proxies=1, auth="gateway"), {"X-Caller": "anonymous", "X-Role": "admin"}
    assert guess(api, 22, **caller, **{"X-Forwarded-For": "10.0.0.1"})[-1] == 429
    assert guess(api, 1, **caller, **{"X-Forwarded-For": "10.0.0.1, 10.0.0.2"}) == [404]


def test_the_guard_can_be_turned_off(service):
    assert guess(service(guesses_per_minute=0), 50) == [404] * 50


def test_while_a_caller_is_refused_not_even_a_right_guess_is_answered(service, drain):
    api = service()
    code = api.create().json["couponCodes"][0]
    drain()
    guess(api, 21)
    assert refused(api.get(f"/v1/coupons/{code}")) == (429, "TOO_MANY_GUESSES")
    assert refused(api.issue(code)) == (429, "TOO_MANY_GUESSES")


def test_a_refused_caller_costs_no_call_of_a_backend(service, backends):
    api = service()
    guess(api, 21)
    backends.close()
    assert set(guess(api, 50)) == {429}


def test_a_rate_is_kept_for_reads_and_commands_apart(service):
    api = service(reads_per_s=3)
    answers = [api.get("/v1/users/ann/coupons") for _ in range(20)]
    assert answers[0].headers["RateLimit-Policy"] == '"reads";q=3;w=1'
    assert answers[0].headers["RateLimit"] == '"reads";r=2;t=1'
    beyond = [answer for answer in answers if answer.status_code == 429]
    assert beyond
    assert refused(beyond[0]) == (429, "TOO_MANY_REQUESTS")
    assert beyond[0].headers["Retry-After"] == "1"
    assert beyond[0].headers["RateLimit"] == '"reads";r=0;t=1'
    assert [api.create().status_code for _ in range(10)] == [202] * 10


def test_each_key_has_its_rate_and_each_address_too(service, backends):
    api = service(commands_per_s=1, proxies=1)
    one, other = add_key(backends, "one", Role.ADMIN), add_key(backends, "other", Role.ADMIN)

    def statuses(key, address):
        headers = key | {"X-Forwarded-For": address}
        return {api.create(**headers).status_code for _ in range(10)}

    assert statuses(one, "10.0.0.1") == {202, 429}
    assert 429 in statuses(one, "10.0.0.2")
    assert 429 in statuses(other, "10.0.0.1")


def test_who_is_not_let_in_has_a_rate_too(service, backends):
    api = service(reads_per_s=3)
    add_key(backends)
    assert {api.get("/v1/users/ann/coupons").status_code for _ in range(20)} == {401, 429}


def test_asking_for_the_head_is_reading(service):
    api = service(commands_per_s=1)
    assert {api.client.head("/v1/users/ann/coupons").status_code for _ in range(5)} == {200}


def test_probes_have_no_rate(service):
    api = service(reads_per_s=1)
    assert {api.get("/livez").status_code for _ in range(20)} == {200}


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, None, "127.0.0.1"),
        (0, "1.1.1.1", "127.0.0.1"),
        (1, None, "127.0.0.1"),
        (1, "1.1.1.1", "1.1.1.1"),
        (1, "made up, 1.1.1.1", "1.1.1.1"),
        (2, "made up, 1.1.1.1, 2.2.2.2", "1.1.1.1"),
        (2, "1.1.1.1", "1.1.1.1"),
    ],
)
def test_the_address_is_the_one_that_our_proxies_have_seen(proxies, forwarded, address):
    environ = {"REMOTE_ADDR": "127.0.0.1"} | ({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})
    assert client_address(environ, proxies) == address
