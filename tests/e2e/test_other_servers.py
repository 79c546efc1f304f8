"""The main job and the race for a code, where other servers have the roles."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.deployment import Deployment, Servers, on_services
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
