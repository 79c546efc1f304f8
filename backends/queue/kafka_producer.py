"""The one producer that all threads of a process share."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer

from backends.queue.kafka_client import REFUSALS, Cluster, driver_errors, verified
from backends.queue.rules import partition_of
from coupon.ports.backend import BackendError, BackendRejected, BackendUnavailable
from coupon.ports.queue import Message


class SharedProducer:
    """Made at the first use and thrown away at its first failure, for the next use to make another.

    After a failure the driver's producer may be in a state that it never leaves (fenced, a refused batch), or still
    hold what it could not send, and send it long after the caller was told that it is unavailable. Other threads'
    messages, which are on their way in it, are given their time.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._making, self._swapping = threading.Lock(), threading.Lock()
        self._live: _Live | None = None
        self._failure: tuple[float, BackendError] | None = None
        self._closed = False

    def publish(self, messages: Sequence[Message]) -> None:
        deadline = time.monotonic() + self._cluster.timeout_s
        topics = {message.topic for message in messages}
        live = self._live
        if live is None or not topics <= live.partitions.keys():
            live = self._prepare(topics, deadline)
        try:
            live.publish(messages, deadline + 0.3)
        except BackendError:
            self._retire(live)
            raise

    def close(self) -> None:
        self._closed = True
        with self._swapping:
            live, self._live = self._live, None
        if live is not None:
            live.end(1.0)

    def _prepare(self, topics: set[str], deadline: float) -> "_Live":
        """A producer that knows these topics. One thread makes it; those who wait for that share its failure."""
        asked = time.monotonic()
        if not self._making.acquire(timeout=deadline - asked):
            raise BackendUnavailable("Kafka is unavailable: nobody could make a producer in time")
        try:
            if self._closed:
                raise BackendUnavailable("the queue was closed")
            if self._failure is not None and self._failure[0] > asked:
                raise BackendUnavailable(str(self._failure[1])) from self._failure[1]
            live = self._live
            if live is None:
                live = self._live = _Live(self._cluster)
            live.learn(topics - live.partitions.keys(), deadline)
            return live
        except BackendUnavailable as error:
            self._failure = (time.monotonic(), error)
            raise
        finally:
            self._making.release()

    def _retire(self, live: "_Live") -> None:
        with self._swapping:
            if self._live is not live:
                return
            self._live = None
        threading.Thread(target=live.end, args=(self._cluster.timeout_s,), daemon=True).start()


class _Live:
    """A producer of the driver, and the number of partitions of the topics that it knows."""

    def __init__(self, cluster: Cluster) -> None:
        self.partitions: dict[str, int] = {}
        self._cluster = cluster
        with driver_errors():
            self._producer, _ = cluster.connect(
                KafkaProducer,
                within_s=cluster.timeout_s * 0.4,
                acks="all",
                enable_idempotence=True,
                delivery_timeout_ms=cluster.timeout_ms,
                request_timeout_ms=int(cluster.timeout_ms * 0.7),
                max_block_ms=int(cluster.timeout_ms * 0.3),
                linger_ms=0,  # messages gather while those before them are on their way; waiting more saved no CPU
                batch_size=128 * 1024,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
            verified(self._producer, acks=-1, enable_idempotence=True, retries=float("inf"))

    def learn(self, topics: set[str], deadline: float) -> None:
        """Raises BackendRejected for a topic that does not exist."""
        if topics:
            left_s = max(0.1, deadline - time.monotonic())
            counts = self._cluster.ask(lambda admin: self._cluster.partitions_of(admin, list(topics)), left_s)
            with driver_errors():
                for topic in topics:
                    self._producer.partitions_for(self._cluster.prefix + topic)
            self.partitions |= counts

    def publish(self, messages: Sequence[Message], deadline: float) -> None:
        with driver_errors():
            futures = [self._send(message) for message in messages]
        failures = [failure for future in futures if (failure := _failure(future, deadline)) is not None]
        if failures:
            refused = len(failures) == len(messages) and all(isinstance(failure, REFUSALS) for failure in failures)
            kind = BackendRejected if refused else BackendUnavailable
            done = len(messages) - len(failures)
            raise kind(f"Kafka acknowledged {done} of {len(messages)} messages: {failures[0]}") from failures[0]

    def end(self, timeout_s: float) -> None:
        try:
            self._producer.close(timeout=timeout_s)
        except Exception:  # it had not sent all in time, and has not stopped its thread
            self._producer._sender.force_close()

    def _send(self, message: Message) -> Any:
        partition = partition_of(message.key, self.partitions[message.topic])
        topic = self._cluster.prefix + message.topic
        return self._producer.send(topic, message.value, message.key.encode(), partition=partition)


def _failure(future: Any, deadline: float) -> Exception | None:
    try:
        future.get(timeout=max(0.0, deadline - time.monotonic()))
    except Exception as error:
        return error
    return None
