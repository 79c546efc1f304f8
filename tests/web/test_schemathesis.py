"""The API does what its OpenAPI document says, asked by a machine that makes up requests, fit and unfit."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from coupon.domain.api_keys import Role
from coupon.runtime.api_keys import change_api_keys
from tests.web.conftest import NOON

OPERATIONS = [
    ("POST", "/v1/coupons"),
    ("PUT", "/v1/coupons/issue"),
    ("PUT", "/v1/coupons/use"),
    ("PUT", "/v1/coupons/cancel"),
    ("PUT", "/v1/coupons/cancel-use"),
    ("GET", "/v1/coupons/{code}"),
    ("GET", "/v1/coupons/expired/today"),
    ("GET", "/v1/users/{user_id}/coupons"),
    ("GET", "/v1/me/coupons"),
    ("GET", "/v1/operations/{address}"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]

TAKE_ANYTHING = ("/livez", "/readyz", "/metrics")
ASKED = [
    (method, path, mode)
    for method, path in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or path not in TAKE_ANYTHING
]


@pytest.fixture
def document(app):
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


@pytest.fixture
def key(backends) -> dict[str, str]:
    """The header of an admin's requests."""
    token = change_api_keys(backends.store, lambda keys: keys.with_new("machine", Role.ADMIN, NOON, None))
    return {"Authorization": f"Bearer {token}"}


def test_the_document_is_one_of_openapi(document):
    document.validate()


def test_every_operation_is_asked(document):
    assert {(found.ok().method.upper(), found.ok().path) for found in document.get_all_operations()} == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path", "mode"), ASKED)
def test_every_answer_is_as_the_document_says(document, key, method, path, mode):
    operation = document[path][method]

    @settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        if case.headers:
            case.headers.pop("Prefer", None)  # nobody works here: it would wait
        # Some of what is fit for the schema is a 422 all the same: that two days are in order, no schema can say.
        case.call_and_validate(headers=key, excluded_checks=[positive_data_acceptance])

    ask()


def test_a_coupons_whole_life_is_as_the_document_says(document, key, drain):
    def ask(method, path, **parts):
        return document[path][method].Case(**parts).call_and_validate(headers=key)

    def address(answer):
        return {"address": answer.headers["location"][0].rpartition("/")[2]}

    body = {"amount": 3, "validFrom": "2026-11-01", "expireAt": "2026-11-22"}
    created = ask("POST", "/v1/coupons", body=body, media_type="application/json")
    drain()
    code = {"couponCode": created.json()["couponCodes"][0]}
    for command, more in (("issue", {"userId": "ann"}), ("use", {}), ("cancel-use", {}), ("cancel", {})):
        path, body = f"/v1/coupons/{command}", code | more
        ask("PUT", path, body=body, media_type="application/json")
        drain()
        # A second time: a conflict, or again with the outcome known at once.
        ask("PUT", path, body=body, media_type="application/json", headers={"Prefer": "wait=0"})
        ask("GET", "/v1/users/{user_id}/coupons", path_parameters={"user_id": "ann"})
        ask("GET", "/v1/coupons/{code}", path_parameters={"code": code["couponCode"]})
    ask("GET", "/v1/coupons/expired/today", query={"limit": 2})
    ask("GET", "/v1/operations/{address}", path_parameters=address(created), query={"limit": 2})
