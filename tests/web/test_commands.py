import pytest

from coupon.domain.codes import parse
from coupon.domain.model import Kind
from tests.web.problems import refused


def test_a_creation_is_accepted_with_its_codes_and_its_address(api):
    answer = api.create(amount=3)
    assert answer.status_code == 202
    assert answer.json["amount"] == 3
    assert answer.json["status"] == "accepted"
    assert len(set(answer.json["couponCodes"])) == 3
    assert all(len(code) == 21 and code[5] == code[12] == "-" for code in answer.json["couponCodes"])
    assert answer.headers["Location"].startswith(f"/v1/operations/{answer.json['operationId']}")


@pytest.mark.parametrize(("amount", "has_codes"), [(1_000, True), (1_001, False)])
def test_the_codes_are_in_the_answer_up_to_a_thousand(api, amount, has_codes):
    answer = api.create(amount=amount)
    assert answer.json["amount"] == amount
    assert ("couponCodes" in answer.json) == has_codes


def test_days_are_taken_without_dashes_and_told_with_them(api, drain):
    code = api.create(first="20261101", last="20261130").json["couponCodes"][0]
    drain()
    coupon = api.get(f"/v1/coupons/{code}").json
    assert (coupon["validFrom"], coupon["expireAt"]) == ("2026-11-01", "2026-11-30")


@pytest.mark.parametrize(
    ("before", "kind"), [([], "issue"), (["issue"], "use"), (["issue"], "cancel"), (["issue", "use"], "cancel_use")]
)
def test_a_change_is_accepted_with_its_address(api, code, before, kind):
    for earlier in before:
        assert getattr(api, earlier)(code).status_code == 202
    answer = getattr(api, kind)(code)
    assert answer.status_code == 202
    assert answer.json == {
        "operationId": answer.json["operationId"],
        "couponCode": code,
        "status": "accepted",
    }
    assert answer.headers["Location"] == f"/v1/operations/{answer.json['operationId']}"


@pytest.mark.parametrize(
    ("before", "kind", "reason"),
    [
        (["issue"], "issue", "ALREADY_ISSUED"),
        (["issue", "use"], "issue", "ALREADY_USED"),
        ([], "use", "NOT_ISSUED"),
        (["issue", "use"], "use", "ALREADY_USED"),
        ([], "cancel", "NOT_ISSUED"),
        (["issue", "use"], "cancel", "ALREADY_USED"),
        ([], "cancel_use", "NOT_USED"),
    ],
)
def test_what_a_rule_forbids_is_a_conflict(api, code, before, kind, reason):
    for earlier in before:
        assert getattr(api, earlier)(code).status_code == 202
    assert refused(getattr(api, kind)(code)) == (409, reason)


@pytest.mark.parametrize(
    ("days", "kind", "reason"),
    [
        (("2026-11-01", "2026-11-21"), "issue", "ALREADY_EXPIRED"),
        (("2026-11-23", "2026-11-30"), "use", "NOT_STARTED"),
    ],
)
def test_what_the_day_forbids_is_a_conflict(api, drain, days, kind, reason):
    code = api.create(1, *days).json["couponCodes"][0]
    drain()
    if kind == "use":
        api.issue(code)
    assert refused(getattr(api, kind)(code)) == (409, reason)


def test_a_coupon_is_used_until_the_end_of_its_last_day(api, drain, clock):
    code = api.create(1, "2026-11-01", "2026-11-22").json["couponCodes"][0]
    drain()
    api.issue(code)
    clock.ms += 12 * 3_600_000 - 1
    assert api.use(code).status_code == 202
    clock.ms += 1
    assert refused(api.cancel_use(code)) == (409, "EXPIRED")


def test_only_the_holder_uses_a_coupon_when_a_user_is_named(api, code):
    api.issue(code, "ann")
    bob = {"couponCode": code, "userId": "bob"}
    assert refused(api.client.put("/v1/coupons/use", json=bob)) == (409, "NOT_HOLDER")
    assert api.client.put("/v1/coupons/use", json=bob | {"userId": "ann"}).status_code == 202


def test_codes_are_taken_in_any_case_with_or_without_dashes(api, code):
    assert api.issue(code.lower()).json["couponCode"] == code
    assert api.use(parse(code)).json["couponCode"] == code


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.CREATE])
def test_an_unknown_code_is_not_found(api, kind):
    body = {"couponCode": "AAAAA-AAAAAA-AAAAAAAA"} | ({"userId": "ann"} if kind is Kind.ISSUE else {})
    assert refused(api.client.put(f"/v1/coupons/{kind}", json=body)) == (404, "NOT_FOUND")


def test_the_same_key_is_the_same_operation(api, code, drain):
    key = {"Idempotency-Key": "k1"}
    first = api.issue(code, **key)
    drain()
    second = api.issue(code, **key)
    assert (second.status_code, second.json, second.headers["Location"]) == (
        202,
        first.json,
        first.headers["Location"],
    )
    drain()
    assert api.get(f"/v1/coupons/{code}").json["version"] == 2


def test_the_same_key_of_another_caller_is_another_operation(api, code):
    first = api.create(**{"Idempotency-Key": "k1", "X-Caller": "shop"}).json["operationId"]
    assert api.create(**{"Idempotency-Key": "k1", "X-Caller": "shop"}).json["operationId"] == first
    assert api.create(**{"Idempotency-Key": "k1", "X-Caller": "till"}).json["operationId"] != first
    assert api.create(**{"Idempotency-Key": "k1"}).json["operationId"] != first


def test_the_same_key_for_another_user_is_refused(api, code):
    api.issue(code, "ann", **{"Idempotency-Key": "k1"})
    assert refused(api.issue(code, "bob", **{"Idempotency-Key": "k1"})) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_the_same_key_for_another_command_is_refused(api, code):
    api.issue(code, "ann", **{"Idempotency-Key": "k1"})
    assert refused(api.use(code, **{"Idempotency-Key": "k1"})) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_creation_sent_again_makes_the_same_coupons(api, drain, backends):
    key = {"Idempotency-Key": "k1"}
    first = api.create(amount=3, **key)
    drain()
    second = api.create(amount=3, **key)
    assert second.json == first.json
    drain()
    assert len(backends.store.scan(100).coupons) == 3


def test_the_same_key_for_another_creation_is_refused(api, drain):
    api.create(amount=3, **{"Idempotency-Key": "k1"})
    drain()
    again = api.create(amount=3, last="2026-12-31", **{"Idempotency-Key": "k1"})
    assert refused(again) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_the_caller_is_the_actor_of_the_history(api, code, drain):
    api.issue(code, **{"X-Caller": "shop-7"})
    api.use(code)
    drain()
    history = api.get(f"/v1/coupons/{code}").json["history"]
    assert [(entry["command"], entry["actor"]) for entry in history] == [
        ("create", "anonymous"),
        ("issue", "shop-7"),
        ("use", "anonymous"),
    ]


def test_the_caller_is_named_in_the_header_of_the_settings(environ, backends):
    from coupon.runtime.settings import load
    from coupon.web import create_app
    from tests.web.conftest import Api

    api = Api(create_app(load(environ | {"COUPON_CALLER_HEADER": "X-Client-Id"}), backends).test_client())
    key = {"Idempotency-Key": "k1"}
    assert (
        api.create(**key, **{"X-Client-Id": "a"}).json["operationId"]
        != api.create(**key, **{"X-Client-Id": "b"}).json["operationId"]
    )
