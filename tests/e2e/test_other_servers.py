"""Where other servers have the roles: the main job, the race for a code, and search while MongoDB is away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.deployment import Deployment, Servers, eventually, on_services
from tests.e2e.test_promises import (
    test_of_sixteen_clients_that_race_for_a_code_one_wins_a_hundred_times,
    test_the_main_job,
)
from tests.services import Services

__all__ = ["test_of_sixteen_clients_that_race_for_a_code_one_wins_a_hundred_times", "test_the_main_job"]
pytestmark = pytest.mark.services


@pytest.fixture(
    scope="module", params=[Servers(queue="redis", search="mongodb", cache="redis")], ids=["redis and mongodb"]
)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, services: Services
) -> Iterator[Deployment]:
    folder: Path = tmp_path_factory.mktemp("service")
    with Deployment(on_services(folder, services, cache_timeout_s=2, servers=request.param)) as deployment:
        yield deployment


def test_a_list_is_there_and_catches_up_after_mongodb_was_away(service: Deployment, services: Services) -> None:
    codes = sorted(service.create(6))
    for code in codes[:3]:
        assert service.put("issue", couponCode=code, userId="joe").status_code == 202
    eventually(lambda: held_by(service, "joe") == codes[:3], 30)
    with services.away("mongodb"):
        assert service.get("/v1/users/joe/coupons").status_code == 503
        for code in codes[3:]:
            answer = service.put("issue", couponCode=code, userId="joe", headers={"Prefer": "wait=10"})
            assert answer.json()["status"] == "applied"
    eventually(lambda: held_by(service, "joe") == codes, 60)


def test_a_rebuild_makes_the_list_again(service: Deployment) -> None:
    [code] = service.create(1)
    assert service.put("issue", couponCode=code, userId="bob").status_code == 202
    eventually(lambda: held_by(service, "bob") == [code], 30)
    service.coupon("reindex")
    assert held_by(service, "bob") == [code]


def held_by(service: Deployment, user: str) -> list[str] | None:
    answer = service.get(f"/v1/users/{user}/coupons")
    return sorted(item["couponCode"] for item in answer.json()["items"]) if answer.status_code == 200 else None
