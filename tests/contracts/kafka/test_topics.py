"""Topics: their names, their clock, and one that was deleted and made again."""

import os
import signal
import time
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource

from backends.testing.queue_driving import drain, values
from backends.testing.queue_processes import another_process, consume
from backends.testing.timing import until_available
from coupon.ports.queue import Message, Queue
from tests.services import Services

pytestmark = pytest.mark.services


def _set_clock(patch: pytest.MonkeyPatch, ahead_s: float) -> None:
    """That of this process, of which no lease and no age may make anything."""
    right_s = time.clock_gettime
    patch.setattr(time, "time", lambda: right_s(time.CLOCK_REALTIME) + ahead_s)
    patch.setattr(time, "time_ns", lambda: int((right_s(time.CLOCK_REALTIME) + ahead_s) * 1e9))


@pytest.fixture
def of_an_older_version(services: Services, prefix: str) -> Iterator[ConfigResource]:
    """A topic in which our times decide, and whose retention an operator has set."""
    admin = KafkaAdminClient(bootstrap_servers=services.kafka)
    configs = {"message.timestamp.type": "CreateTime", "retention.ms": "2592000000"}
    admin.create_topics({f"{prefix}older": {"num_partitions": 4, "replication_factor": 1, "configs": configs}})
    admin.wait_for_topics([f"{prefix}older"])
    yield ConfigResource("topic", f"{prefix}older", configs)
    admin.close()


def test_topics_and_groups_have_the_prefix_in_kafka_only(queue: Queue, services: Services, prefix: str) -> None:
    queue.publish([Message("t", "k", b"v")])
    (delivery,) = drain([queue.consumer(["t"], "g")], 1)[0]
    assert delivery.topic == "t"
    admin = KafkaAdminClient(bootstrap_servers=services.kafka)
    assert {prefix + "t", prefix + "other"} <= set(admin.list_topics())
    assert admin.list_group_offsets([f"{prefix}g"])[f"{prefix}g"]
    admin.close()


def test_a_topic_goes_by_the_brokers_clock_also_one_that_an_older_version_made(
    queue: Queue, services: Services, prefix: str, of_an_older_version: ConfigResource
) -> None:
    queue.create(["older"])
    admin = KafkaAdminClient(bootstrap_servers=services.kafka)
    topics = [of_an_older_version, ConfigResource("topic", f"{prefix}t")]
    configs = admin.describe_configs(topics)["topic"]
    admin.close()
    assert {name: configs[name]["message.timestamp.type"]["value"] for name in configs} == {
        f"{prefix}older": "LogAppendTime",
        f"{prefix}t": "LogAppendTime",
    }
    assert configs[f"{prefix}older"]["retention.ms"]["value"] == "2592000000"


@pytest.mark.usefixtures("of_an_older_version")
@pytest.mark.parametrize("wrong_h", [-30_000, -2, 2, 30_000])
def test_a_clock_that_is_wrong_stops_no_publish(queue: Queue, monkeypatch: pytest.MonkeyPatch, wrong_h: int) -> None:
    _set_clock(monkeypatch, wrong_h * 3_600)
    queue.publish([Message("older", "k", b"v"), Message("t", "k", b"v")])
    assert values(queue.browse("older")) == values(queue.browse("t")) == [b"v"]


@pytest.mark.parametrize("slept_s", [1.0, 8.0])
def test_a_topic_that_was_recreated_is_delivered_from_its_beginning(
    queue: Queue, url: str, services: Services, prefix: str, slept_s: float
) -> None:
    """Also to who slept meanwhile, and what is before the offset where it was in the old one."""
    queue.publish([Message("t", "k", b"old")] * 5)
    with another_process(consume, url, 5, 20) as (process, pipe):
        assert pipe.recv() == [b"old"] * 5
        os.kill(process.pid, signal.SIGSTOP)
        admin = KafkaAdminClient(bootstrap_servers=services.kafka)
        admin.delete_topics([f"{prefix}t"])
        admin.close()
        until_available(lambda: queue.create(["t"]))
        sent = [b"%d" % number for number in range(20)]
        until_available(lambda: queue.publish([Message("t", "k", value) for value in sent]))
        time.sleep(slept_s)
        os.kill(process.pid, signal.SIGCONT)
        assert pipe.poll(60)
        assert pipe.recv() == sent
