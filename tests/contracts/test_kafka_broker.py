"""What a broker seldom says on demand: a client that follows a script, at the driver's edge."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from kafka import TopicPartition, errors
from kafka.future import Future
from kafka.record.memory_records import MemoryRecords

from backends.queue.kafka_broker import BATCH_BYTES, Broker, SendCall
from backends.queue.kafka_leaders import Leaders
from backends.queue.kafka_producer import SharedProducer
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Message

ONE, TWO = TopicPartition("t", 1), TopicPartition("t", 2)
GOOD = 0
NOT_LEADER, TOO_LARGE, UNKNOWN_TOPIC = 6, 10, 3
SILENCE = None


class Scripted:
    """Answers each request by what the script says of a partition's batch, given its values; or cannot be reached."""

    def __init__(self, script, unreachable):
        self._script, self._unreachable = script, unreachable
        self.sent: list[dict[int, list[bytes]]] = []
        self.distort = lambda topics: topics
        self.closed = False

    def connected(self, node):
        return not self.closed

    def is_ready(self, node):
        return self._unreachable is None

    def not_ready(self, node):
        return errors.NodeNotReadyError(f"broker {node}")

    def await_ready(self, node, timeout_ms):
        raise self._unreachable

    def poll(self, timeout_ms, future=None):
        pass

    def close(self):
        self.closed = True

    def send(self, node, request):
        (topic,) = request.topic_data
        sent = {each.index: values(each.records) for each in topic.partition_data}
        self.sent.append(sent)
        outcomes = {partition: self._script(partition, batch) for partition, batch in sent.items()}
        future = Future()
        if SILENCE in outcomes.values():
            return future
        topics = [_acknowledgement(topic.name, partition, code) for partition, code in outcomes.items()]
        return future.success(SimpleNamespace(responses=self.distort(topics)))


def _acknowledgement(topic, partition, code, base_offset=5):
    acknowledgement = SimpleNamespace(index=partition, error_code=code, error_message=None, base_offset=base_offset)
    return SimpleNamespace(name=topic, partition_responses=[acknowledgement])


def values(records):
    return [record.value for batch in MemoryRecords(bytes(records)) for record in batch]


def opened(script, unreachable=None):
    cluster, clients = scripted(script, unreachable)
    return Broker(cluster, 1), clients


def scripted(script, unreachable=None, distort=None):
    """A cluster of one broker, and the connections that were made to it."""
    clients = []

    def connect(kind, within_s, **options):
        clients.append(Scripted(script, unreachable))
        clients[-1].distort = distort or clients[-1].distort
        return clients[-1], None

    leaders = {"t": [1, 1]}
    cluster = SimpleNamespace(
        timeout_s=1.0,
        timeout_ms=1000,
        prefix="",
        is_secured=False,
        connect=connect,
        ask=lambda question, within_s: leaders,
    )
    return cluster, clients


def order(place, *sent):
    return SendCall([(place, Message("t", "k", value)) for value in sent])


def send(broker, *orders):
    """All in one group."""
    broker.serve(orders, time.monotonic() + 1)


def test_orders_of_one_moment_go_out_in_one_request():
    broker, clients = opened(lambda partition, batch: GOOD)
    first, second = order(ONE, b"a", b"b"), order(TWO, b"c")
    send(broker, first, second)
    assert clients[0].sent == [{1: [b"a", b"b"], 2: [b"c"]}]
    assert (first.acknowledged, second.acknowledged) == (2, 1)


def test_what_was_not_written_may_be_sent_again_with_all_behind_it():
    """In their order: nothing that came later is written before it."""
    broker, clients = opened(lambda partition, batch: NOT_LEADER if partition == 1 else GOOD)
    long = b"x" * (BATCH_BYTES - 10)
    first, second = order(ONE, b"a", long, b"b"), order(TWO, b"c")
    send(broker, first, second)
    assert len(clients[0].sent) == 1
    assert [message.value for _, message in first.to_retry] == [b"a", long, b"b"]
    assert (first.acknowledged, first.failures, second.acknowledged, second.to_retry) == (0, [], 1, [])


def test_one_message_that_is_too_large_is_refused_alone():
    broker, clients = opened(lambda partition, batch: TOO_LARGE if b"large" in batch else GOOD)
    small, large = order(ONE, b"a", b"b", b"c"), order(ONE, b"large")
    send(broker, small, large)
    assert (small.acknowledged, small.failures) == (3, [])
    assert large.is_refused
    assert isinstance(large.failures[0], errors.MessageSizeTooLargeError)
    assert not clients[0].closed


def test_a_partition_is_written_batch_by_batch_in_order():
    broker, clients = opened(lambda partition, batch: GOOD)
    sent = [b"%d" % number * (BATCH_BYTES // 3) for number in range(8)]
    whole = order(ONE, *sent)
    send(broker, whole)
    assert whole.acknowledged == 8
    assert [value for request in clients[0].sent for value in request[1]] == sent
    assert len(clients[0].sent) > 2


def test_what_is_in_doubt_is_not_sent_again_and_costs_the_connection():
    broker, clients = opened(lambda partition, batch: SILENCE if b"a" in batch else GOOD)
    doubtful, later = order(ONE, b"a"), order(ONE, b"b")
    send(broker, doubtful)
    assert (doubtful.acknowledged, doubtful.to_retry, len(doubtful.failures)) == (0, [], 1)
    assert not doubtful.is_refused
    assert clients[0].closed
    send(broker, later)
    assert [client.sent for client in clients] == [[{1: [b"a"]}], [{1: [b"b"]}]]


def test_the_refusal_of_one_topic_is_nobody_elses():
    broker, _ = opened(lambda partition, batch: UNKNOWN_TOPIC if partition == 1 else GOOD)
    refused, good = order(ONE, b"a"), order(TWO, b"b")
    send(broker, refused, good)
    assert (refused.is_refused, good.acknowledged) == (True, 1)


@pytest.mark.parametrize("thrown", [RuntimeError("loop"), AttributeError("race"), OSError("socket")])
def test_whatever_the_driver_throws_every_message_is_settled(thrown):
    def throw(partition, batch):
        raise thrown

    broker, clients = opened(throw)
    orders = [order(ONE, b"a", b"b"), order(TWO, b"c")]
    send(broker, *orders)
    assert [len(each.failures) for each in orders] == [2, 1]
    assert clients[0].closed


@pytest.mark.parametrize("error", [errors.KafkaConnectionError, errors.UnknownBrokerIdError, errors.NodeNotReadyError])
def test_to_a_broker_that_is_not_to_be_reached_nothing_is_sent_and_another_may_lead(error):
    broker, clients = opened(lambda partition, batch: GOOD, error)
    waiting = order(ONE, b"a", b"b")
    send(broker, waiting)
    assert (len(waiting.to_retry), waiting.failures, clients[0].sent) == (2, [], [])


def test_a_broker_that_is_closed_keeps_no_connection():
    broker, clients = opened(lambda partition, batch: GOOD)
    send(broker, order(ONE, b"a"))
    broker.close()
    assert clients[0].closed


def producer(distort=None):
    cluster, clients = scripted(lambda partition, batch: GOOD, distort=distort)
    return SharedProducer(cluster, Leaders(cluster)), clients


TWO_PARTITIONS = [Message("t", key, b"v") for key in ("d", "a")]


def test_what_is_acknowledged_as_a_whole_is_published():
    shared, clients = producer()
    shared.publish(TWO_PARTITIONS)
    assert clients[0].sent == [{0: [b"v"], 1: [b"v"]}]


DISTORTED = {
    "one is left out": lambda topics: topics[:1],
    "the other is left out": lambda topics: topics[1:],
    "nothing is said": lambda topics: [],
    "of no partition": lambda topics: [SimpleNamespace(name="t", partition_responses=[])],
    "of another topic": lambda topics: [SimpleNamespace(**vars(each) | {"name": "other"}) for each in topics],
    "of another partition": lambda topics: [topics[0], _acknowledgement("t", 7, GOOD)],
    "an error before the good one": lambda topics: [_acknowledgement("t", 0, -1), *topics],
    "an error after the good one": lambda topics: [*topics, _acknowledgement("t", 0, -1)],
    "no offset": lambda topics: [topics[0], _acknowledgement("t", 1, GOOD, base_offset=-1)],
}


@pytest.mark.parametrize("distorted", DISTORTED)
def test_what_no_acknowledgement_names_is_not_published(distorted):
    shared, clients = producer(DISTORTED[distorted])
    with pytest.raises(BackendUnavailable, match=r"acknowledged [01] of 2"):
        shared.publish(TWO_PARTITIONS)
    assert len(clients) == 1, "in doubt, so not sent again"


@pytest.mark.parametrize("settle", [lambda order: None, lambda order: order.settle(order.todo[0], None)])
def test_a_broker_that_says_nothing_of_a_message_has_not_acknowledged_it(monkeypatch, settle):
    monkeypatch.setattr(Broker, "send", lambda broker, order, deadline: settle(order))
    shared, _ = producer()
    with pytest.raises(BackendUnavailable, match=r"acknowledged [01] of 2"):
        shared.publish(TWO_PARTITIONS)


def test_who_waits_for_a_thread_that_dies_while_it_sends_for_all_has_published_nothing(group_clock):
    """A thread may be ended by what is no Exception, between its request and the answer."""
    waits, dies = threading.Event(), threading.Event()

    def script(partition, batch):
        if b"dies" in batch:
            dies.set()
            waits.wait(10)
            return GOOD
        raise SystemExit

    cluster, _ = scripted(script)
    shared = SharedProducer(cluster, Leaders(cluster))
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(shared.publish, [Message("t", "a", b"dies")])
        dies.wait(10)
        later = [threads.submit(shared.publish, [Message("t", "a", b"later")]) for _ in range(2)]
        while group_clock.waiting < 2:
            time.sleep(0.001)
        waits.set()
        first.result()
        assert {type(each.exception()) for each in later} == {SystemExit, BackendUnavailable}
