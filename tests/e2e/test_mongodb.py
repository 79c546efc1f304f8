"""A running service whose search is on MongoDB."""

import pytest

from tests.e2e.deployment import Deployment, eventually, on_services
from tests.e2e.test_promises import test_of_sixteen_clients_that_race_for_a_code_one_wins_a_hundred_times as race

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def service(services, tmp_path_factory):
    environ = on_services(tmp_path_factory.mktemp("service"), services, cache_timeout_s=2, search="mongodb")
    with Deployment(environ) as deployment:
        yield deployment


def held_by(service, user):
    answer = service.get(f"/v1/users/{user}/coupons")
    return sorted(item["couponCode"] for item in answer.json()["items"]) if answer.status_code == 200 else None


def test_of_sixteen_clients_that_race_one_wins(service):
    race(service)


def test_a_list_is_there_and_catches_up_after_mongodb_was_away(service, services):
    codes = sorted(service.create(6))
    for code in codes[:3]:
        assert service.put("issue", couponCode=code, userId="eve").status_code == 202
    eventually(lambda: held_by(service, "eve") == codes[:3], 30)
    with services.away("mongodb"):
        assert service.get("/v1/users/eve/coupons").status_code == 503
        for code in codes[3:]:
            answer = service.put("issue", couponCode=code, userId="eve", headers={"Prefer": "wait=10"})
            assert answer.json()["status"] == "applied"
    eventually(lambda: held_by(service, "eve") == codes, 60)


def test_a_rebuild_makes_the_list_again(service):
    [code] = service.create(1)
    assert service.put("issue", couponCode=code, userId="bob").status_code == 202
    eventually(lambda: held_by(service, "bob") == [code], 30)
    service.coupon("reindex")
    assert held_by(service, "bob") == [code]
