"""What Redis's configuration may lose is said, and a publish waits for the disk where the server can."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
from structlog.testing import capture_logs

from backends.queue.redis_durability import WAITS_SINCE
from backends.redis_connections import Command, RedisConnection
from backends.testing.queue_driving import messages, opened
from coupon.domain.errors import BackendUnavailable
from tests.contracts.redis.server import DURABLE, MEMORY_ONLY, PrivateRedis

pytestmark = pytest.mark.services
EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")


@pytest.mark.parametrize(
    ("configuration", "sentences"),
    [
        (DURABLE, []),
        (MEMORY_ONLY, ["a restart loses everything"]),
        (("--appendonly", "no", "--save", "60 1"), ["after the last snapshot"]),
        (("--appendonly", "yes", "--appendfsync", "no"), ["half a minute or more"]),
        ((*DURABLE, "--maxmemory-policy", "allkeys-lru"), ["a full memory loses messages"]),
        ((*DURABLE, "--rename-command", "CONFIG", ""), ["is not known"]),
    ],
)
def test_a_ping_says_once_what_the_configuration_may_lose(
    server: PrivateRedis, configuration: tuple[str, ...], sentences: list[str]
) -> None:
    server.start(*configuration)
    queue = opened(server.url)
    with capture_logs() as logs:
        for _ in range(3):
            queue.ping()
    assert [log["event"] for log in logs] == ["acknowledged commands may be lost"] * len(sentences)
    for log, sentence in zip(logs, sentences, strict=True):
        assert sentence in log["reason"]
    queue.close()


class As72:
    """The calls of WAITAOF, which Redis 7.0 does not have. ``synced``: on how many disks the messages are."""

    def __init__(self) -> None:
        self.calls: list[Command] = []
        self.synced = 1


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> As72:
    """At the driver's edge."""
    server, ask = As72(), RedisConnection.ask

    def as_7_2(self: RedisConnection, commands: Sequence[Command]) -> list[Any]:
        if hasattr(self, "info"):
            self.info["redis_version"] = ".".join(map(str, WAITS_SINCE))
        waits = [command for command in commands if command[0] == "WAITAOF"]
        server.calls += waits
        replies = ask(self, [command for command in commands if command not in waits])
        return [*replies, *([server.synced, 0] for _ in waits)]

    monkeypatch.setattr(RedisConnection, "ask", as_7_2)
    return server


def test_a_publish_waits_until_the_disk_has_it(server: PrivateRedis, waiting: As72) -> None:
    server.start(*EVERY_SECOND)
    with closing(opened(f"{server.url}?timeout_s=2")) as queue, capture_logs() as logs:
        queue.create(["t"])
        queue.publish(messages(10))
        ((*command, within_ms),) = waiting.calls
        assert command == ["WAITAOF", 1, 0]
        assert 1_000 < within_ms <= 2_000
        waiting.synced = 0
        with pytest.raises(BackendUnavailable, match="disk"):
            queue.publish(messages(10))
    assert not logs


def test_a_publish_waits_for_nothing_that_the_server_does_by_itself_or_not_at_all(
    server: PrivateRedis, waiting: As72
) -> None:
    for configuration in (DURABLE, MEMORY_ONLY):
        server.start(*configuration)
        with closing(opened(server.url)) as queue:
            queue.create(["t"])
            queue.publish(messages(10))
        server.kill()
    assert waiting.calls == []
