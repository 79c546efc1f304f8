"""Who may call what: keys, roles, a gateway, and nobody."""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from coupon.domain.api_keys import ROLES_OF_KEYS, Role
from coupon.domain.errors import BackendUnavailable
from coupon.ports.store import Record
from coupon.runtime.api_keys import KEY, KIND, change_api_keys
from coupon.web import create_app
from coupon.web.current_keys import REFRESH_MS, STALE_MS
from coupon.web.routes import PAGES, routes
from tests.web.conftest import NOON, Api
from tests.web.problems import problem, refused

CODE = "AAAAA-AAAAAA-AAAAAAAA"
READS, LISTS = {"app", "operator", "viewer", "admin"}, {"operator", "viewer", "admin"}
APPS, OPERATORS = {"app", "operator", "admin"}, {"operator", "admin"}
MAY = {
    ("POST", "/v1/coupons"): OPERATORS,
    ("PUT", "/v1/coupons/issue"): APPS,
    ("PUT", "/v1/coupons/use"): APPS | {"user"},
    ("PUT", "/v1/coupons/cancel"): OPERATORS,
    ("PUT", "/v1/coupons/cancel-use"): APPS,
    ("GET", "/v1/coupons/<code>"): READS,
    ("GET", "/v1/coupons/expired/today"): LISTS,
    ("GET", "/v1/users/<text:user_id>/coupons"): READS,
    ("GET", "/v1/me/coupons"): {"user"},
    ("GET", "/v1/operations/<address>"): READS | {"user"},
    ("GET", "/livez"): None,
    ("GET", "/readyz"): None,
    ("GET", "/metrics"): LISTS,
}
"""By address: the roles that may call it; None for everybody, without a key, too."""
WRONG = ["", "ck_", "Bearer", "Bearer ", "Bearer ck_", "Bearer ck_wrong", "Basic {token}", "{token}", "Bearer {token}x"]
WRONG += ["Bearer x{token}", "Bearer {token} {token}", "Bearer {token},", "Token {token}", "Bearer ck_\xe4"]


def add_key(backends, name="shop", role=Role.APP, expires_at=None):
    """The header of a request with a new key."""
    token = change_api_keys(backends.store, lambda keys: keys.with_new(name, role, NOON, expires_at))
    return {"Authorization": f"Bearer {token}"}


def concrete(path):
    return path.replace("<code>", CODE).replace("<text:user_id>", "ann").replace("<address>", "x")


def test_the_table_names_every_address_once(app):
    assert {(route.method, route.path) for route in routes(None)} == set(MAY)
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert rules == {path for _, path in MAY} | set(PAGES)


@pytest.mark.parametrize("role", [None, *ROLES_OF_KEYS])
@pytest.mark.parametrize(("method", "path"), MAY)
def test_each_address_takes_its_roles_and_no_other(api, backends, method, path, role):
    keys = {each: add_key(backends, each, each) for each in ROLES_OF_KEYS}
    answer = api.client.open(concrete(path), method=method, headers=keys.get(role, {}))
    allowed = MAY[method, path]
    if allowed is None or role in allowed:
        assert answer.status_code not in (401, 403)
    elif role is None:
        assert refused(answer) == (401, "UNAUTHENTICATED")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    else:
        assert refused(answer) == (403, "FORBIDDEN")
        assert set(problem(answer)["roles"]) == allowed


@pytest.mark.parametrize("path", [path for path in PAGES if "<" not in path])
def test_pages_want_no_key(api, backends, path):
    add_key(backends)
    assert api.client.get(path, headers={"Accept": "text/html"}).status_code < 400


@pytest.mark.parametrize(("method", "path"), [row for row, roles in MAY.items() if roles])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_key_is_refused_everywhere(api, backends, method, path, wrong):
    token = add_key(backends)["Authorization"].removeprefix("Bearer ")
    answer = api.client.open(concrete(path), method=method, headers={"Authorization": wrong.format(token=token)})
    assert refused(answer) == (401, "UNAUTHENTICATED")
    assert token not in answer.text


def test_the_key_is_the_caller_and_nobody_can_spoof_it(api, backends, drain):
    key = add_key(backends, "shop-7", Role.OPERATOR)
    code = api.create(**key).json["couponCodes"][0]
    drain()
    api.issue(code, **key, **{"X-Caller": "somebody-else"})
    drain()
    history = api.client.get(f"/v1/coupons/{code}", headers=key).json["history"]
    assert history[-1]["actor"] == "shop-7"


def test_an_idempotency_key_belongs_to_the_key(api, backends):
    one, other = add_key(backends, "one", Role.OPERATOR), add_key(backends, "other", Role.OPERATOR)
    same = {"Idempotency-Key": "order-1"}
    first = api.create(**one, **same).json["operationId"]
    assert api.create(**one, **same).json["operationId"] == first
    assert api.create(**other, **same).json["operationId"] != first


def test_from_the_first_key_on_one_is_wanted(api, backends, timer):
    assert api.get("/v1/users/ann/coupons").status_code == 200
    add_key(backends)
    timer.ahead_ms += REFRESH_MS
    api.get("/v1/users/ann/coupons")
    timer.ahead_ms += STALE_MS
    assert refused(api.get("/v1/users/ann/coupons")) == (401, "UNAUTHENTICATED")


def test_a_revoked_key_is_out_within_a_second(api, backends, timer):
    add_key(backends, "other")
    key = add_key(backends)
    assert api.client.get("/v1/users/ann/coupons", headers=key).status_code == 200
    change_api_keys(backends.store, lambda keys: (keys.without("shop", last=False), None))
    timer.ahead_ms += 1_000
    assert refused(api.client.get("/v1/users/ann/coupons", headers=key)) == (401, "UNAUTHENTICATED")


def test_a_key_expires_at_its_instant(api, backends, clock):
    key = add_key(backends, expires_at=NOON + 1_000)
    assert api.client.get("/v1/users/ann/coupons", headers=key).status_code == 200
    clock.ms += 1_000
    assert refused(api.client.get("/v1/users/ann/coupons", headers=key)) == (401, "UNAUTHENTICATED")


def test_while_the_store_is_away_a_known_key_goes_on(api, backends, timer, monkeypatch):
    key = add_key(backends)
    api.client.get("/v1/users/ann/coupons", headers=key)

    def away(*_):
        raise BackendUnavailable("away")

    monkeypatch.setattr(backends.store, "get_records", away)
    timer.ahead_ms += 60_000
    assert api.client.get("/v1/users/ann/coupons", headers=key).status_code == 200
    assert refused(api.get("/v1/users/ann/coupons")) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize("known", [True, False])
def test_a_process_that_ends_reads_no_keys_any_more(settings, backends, timer, monkeypatch, known):
    """Threads of a request outlive the pool of threads then."""

    def refuse(*_):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    key = add_key(backends)
    api = Api(create_app(settings, backends, timer=timer).test_client())
    if known:
        api.client.get("/v1/users/ann/coupons", headers=key)
        timer.ahead_ms += 60_000
    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    answer = api.client.get("/v1/users/ann/coupons", headers=key)
    assert answer.status_code == 200 if known else refused(answer) == (503, "UNAVAILABLE")


def test_before_the_store_has_answered_nobody_is_let_in(settings, backends, monkeypatch):
    def away(*_):
        raise BackendUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(backends.store, "get_records", away)
        api = Api(create_app(settings, backends).test_client())
        assert refused(api.get("/v1/users/ann/coupons")) == (503, "UNAVAILABLE")
        assert api.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "environ",
    [
        {"SERVER_NAME": "0.0.0.0"},
        {"SERVER_NAME": "10.1.2.3"},
        {"SERVER_NAME": "coupon.example"},
        {"REMOTE_ADDR": "10.1.2.3"},
        {"REMOTE_ADDR": ""},  # a socket in the file system
    ],
)
def test_without_a_key_only_this_machine_is_let_in(api, environ):
    answer = api.client.get("/v1/users/ann/coupons", environ_overrides=environ)
    assert refused(answer) == (401, "UNAUTHENTICATED")
    assert "coupon keys create" in problem(answer)["detail"]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Via"])
def test_without_a_key_who_comes_by_a_proxy_is_not_let_in(api, header):
    answer = api.client.get("/v1/users/ann/coupons", headers={header: "10.1.2.3"})
    assert refused(answer) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize("chosen", [{"hosts": "shop.example"}, {"proxies": 1}])
def test_without_a_key_a_service_that_has_proxies_lets_nobody_in(settings, backends, chosen):
    api = Api(create_app(dataclasses.replace(settings, **chosen), backends).test_client())
    answer = api.client.get(
        "/v1/users/ann/coupons", headers={"Host": "shop.example" if "hosts" in chosen else "localhost"}
    )
    assert refused(answer) == (401, "UNAUTHENTICATED")


@pytest.mark.logs_error("API keys are gone")
def test_a_store_that_has_lost_the_keys_opens_nothing(api, backends, timer, monkeypatch):
    key = add_key(backends)
    assert api.client.get("/v1/users/ann/coupons", headers=key).status_code == 200
    monkeypatch.setattr(backends.store, "get_records", lambda *_: {})
    timer.ahead_ms += 5_000
    assert refused(api.get("/v1/users/ann/coupons")) == (401, "UNAUTHENTICATED")
    assert api.client.get("/v1/users/ann/coupons", headers=key).status_code == 200


def test_the_last_key_that_was_revoked_on_purpose_opens_the_service(api, backends, timer):
    key = add_key(backends)
    assert api.client.get("/v1/users/ann/coupons", headers=key).status_code == 200
    change_api_keys(backends.store, lambda keys: (keys.without("shop", last=True), None))
    timer.ahead_ms += 5_000
    assert api.get("/v1/users/ann/coupons").status_code == 200


@pytest.mark.parametrize("was_away", [False, True])
def test_a_key_that_was_revoked_while_the_process_was_idle_is_out_though_the_store_is_slow(
    api, backends, timer, monkeypatch, was_away
):
    add_key(backends, "other")
    key = add_key(backends)
    assert api.client.get("/v1/users/ann/coupons", headers=key).status_code == 200
    read = backends.store.get_records
    if was_away:
        with monkeypatch.context() as patch:
            patch.setattr(backends.store, "get_records", lambda *_: raise_away())
            timer.ahead_ms += 5_000
            assert api.client.get("/v1/users/ann/coupons", headers=key).status_code == 200
    change_api_keys(backends.store, lambda keys: (keys.without("shop", last=False), None))
    monkeypatch.setattr(backends.store, "get_records", lambda *arguments: time.sleep(0.4) or read(*arguments))
    timer.ahead_ms += 3_600_000
    assert refused(api.client.get("/v1/users/ann/coupons", headers=key)) == (401, "UNAUTHENTICATED")


def raise_away():
    raise BackendUnavailable("away")


@pytest.mark.parametrize("role", ROLES_OF_KEYS)
def test_the_codes_of_a_creation_are_for_those_who_may_list_coupons(api, backends, role):
    maker, reader = add_key(backends, "maker", Role.OPERATOR), add_key(backends, "reader", role)
    created = api.create(**maker)
    answer = api.client.get(created.headers["Location"], headers=reader)
    if role is Role.APP:
        assert refused(answer) == (403, "FORBIDDEN")
    else:
        assert answer.json["couponCodes"] == created.json["couponCodes"]


def test_a_key_that_was_made_anew_under_a_name_is_another_caller(api, backends, timer, clock):
    """Otherwise it would get the codes of the former one, with a key that is easily guessed."""
    add_key(backends, "other", Role.ADMIN)
    again = {"Idempotency-Key": "1"}
    first = api.create(**add_key(backends, "shop", Role.OPERATOR), **again).json["operationId"]
    change_api_keys(backends.store, lambda keys: (keys.without("shop", last=False), None))
    token = change_api_keys(backends.store, lambda keys: keys.with_new("shop", Role.OPERATOR, NOON + 1, None))
    timer.ahead_ms += 5_000
    assert api.create(Authorization=f"Bearer {token}", **again).json["operationId"] != first


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": 99, "keys": {}}', '{"format": 1, "keys": 5}'])
@pytest.mark.logs_error
def test_a_record_of_keys_that_nobody_can_read_lets_nobody_in(settings, backends, text):
    backends.store.save_groups([[Record(KIND, KEY, 1, text)]])
    api = Api(create_app(settings, backends).test_client())
    assert refused(api.get("/v1/users/ann/coupons")) == (503, "UNAVAILABLE")


def test_only_identified_callers_are_told_of_topics(api, backends, timer):
    key = add_key(backends, role=Role.VIEWER)
    told = api.client.get("/readyz", headers=key).json["dependencies"]
    assert told["worker"]["problems"]
    hidden = api.get("/readyz").json["dependencies"]
    assert {name: finding["status"] for name, finding in hidden.items()} == {
        name: finding["status"] for name, finding in told.items()
    }
    assert all("problems" not in finding for finding in hidden.values())


@pytest.fixture
def behind_a_gateway(settings, backends, clock, timer):
    return Api(create_app(dataclasses.replace(settings, auth="gateway"), backends, clock, timer).test_client())


@pytest.mark.parametrize("role", [None, "", "king", "Admin", "app,admin", "user", *ROLES_OF_KEYS])
@pytest.mark.parametrize(("method", "path"), [row for row, roles in MAY.items() if roles])
def test_a_gateway_names_the_role(behind_a_gateway, method, path, role):
    headers = {"X-Caller": "shop"} | ({} if role is None else {"X-Role": str(role)})
    answer = behind_a_gateway.client.open(concrete(path), method=method, headers=headers)
    if role in ROLES_OF_KEYS:
        assert answer.status_code == 403 if role not in MAY[method, path] else answer.status_code not in (401, 403)
    else:
        assert refused(answer) == (401, "UNAUTHENTICATED")


def test_a_gateway_names_the_caller(behind_a_gateway, drain):
    operator = {"X-Role": "operator", "X-Caller": "shop-7"}
    code = behind_a_gateway.create(**operator).json["couponCodes"][0]
    drain()
    history = behind_a_gateway.client.get(f"/v1/coupons/{code}", headers=operator).json["history"]
    assert history[0]["actor"].startswith("shop-7")


def test_behind_a_gateway_everybody_has_a_name(behind_a_gateway):
    answer = behind_a_gateway.client.get("/v1/users/ann/coupons", headers={"X-Role": "admin"})
    assert refused(answer) == (401, "UNAUTHENTICATED")


def test_behind_a_gateway_a_key_is_nothing(behind_a_gateway, backends):
    key = add_key(backends, role=Role.ADMIN)
    assert refused(behind_a_gateway.client.get("/v1/users/ann/coupons", headers=key)) == (401, "UNAUTHENTICATED")
