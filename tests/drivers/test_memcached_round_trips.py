"""A driver without our hooks keeps the cache's promises in two round trips, with one warning."""

from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from backends.cache import memcached_client
from backends.testing.cache import CacheContract
from backends.testing.cache_rivals import open_cache
from tests.services import Services


@pytest.mark.services
class TestMemcachedInTwoRoundTrips(CacheContract):
    @pytest.fixture
    def url(self, services: Services, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setattr(memcached_client, "HOOKS", ("gone_in_the_next_version",))
        return f"memcached://{services.memcached}?prefix={uuid4().hex}:"

    @pytest.fixture
    def gone_url(self) -> str:
        return "memcached://127.0.0.1:9"


def warnings() -> list[str]:
    with capture_logs() as logs:
        open_cache("memcached://127.0.0.1:9").close()
    return [each["event"] for each in logs if each["log_level"] == "warning"]


def test_the_driver_takes_two_commands_in_one_round_trip() -> None:
    assert warnings() == []


def test_a_driver_without_the_hooks_is_used_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memcached_client, "HOOKS", ("gone_in_the_next_version",))
    assert warnings() == ["memcached with two round trips for one"]
