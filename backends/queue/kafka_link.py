"""Requests on the driver's connections without its clients: one request is one round trip."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from kafka import errors

from backends.queue.kafka_client import Cluster
from backends.queue.kafka_fixes import ClosingClient

READY_S, SECURED_READY_S = 0.5, 2.0
"""The longest wait for a broker that does not accept a connection: callers of other brokers wait behind it. TLS and a
password take several round trips, and CPU on both sides."""
ANSWER_BYTES_MAX = 100_000_000
"""The most bytes of a response, as in the driver's consumers."""


class Link:
    """For one thread at a time. It connects at the first use, and again after a failure."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client: ClosingClient | None = None
        self._nodes: set[int] = set()

    def client(self, nodes: Iterable[int], deadline: float) -> ClosingClient:
        """The connections, without those that have ended. Those to the nodes may not be ready yet."""
        if self._client is not None:
            self._client.poll(timeout_ms=0)
            if not all(self._client.connected(node) for node in self._nodes):
                self.disconnect()
        if self._client is None:
            within_s = min(self._cluster.timeout_s * 0.4, max(0.1, deadline - time.monotonic()))
            options = {"request_timeout_ms": self._cluster.timeout_ms, "receive_message_max_bytes": ANSWER_BYTES_MAX}
            self._client, _ = self._cluster.connect(_bootstrapped, within_s, **options)
        ready_s = SECURED_READY_S if self._cluster.is_secured else READY_S
        for node in nodes:
            self._nodes.add(node)
            if not self._client.is_ready(node):
                with suppress(errors.KafkaError):  # unreachable, or no broker of the cluster any more
                    self._client.await_ready(node, timeout_ms=min(left_ms(deadline), int(ready_s * 1000)))
        return self._client

    def ask(self, requests: Sequence[tuple[int | None, Any]], deadline: float) -> list[Any]:
        """Send requests to brokers in parallel, and return the responses; the node None is any broker. Raises the
        driver's errors. Then the next call connects again."""
        try:
            client = self.client({node for node, _ in requests if node is not None}, deadline)
            sent = [client.send(_ready(client, node), request) for node, request in requests]
            for future in sent:
                client.poll(timeout_ms=left_ms(deadline), future=future)
            for future in sent:
                if not future.succeeded():
                    raise future.exception or errors.KafkaTimeoutError("no answer in time")
            return [future.value for future in sent]
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        client, self._client = self._client, None
        self._nodes = set()
        if client is not None:
            with suppress(Exception):  # the driver may raise any error
                client.close()


def _ready(client: ClosingClient, node: int | None) -> int | None:
    if node is not None and not client.is_ready(node):
        raise client.not_ready(node)
    return node


def left_ms(deadline: float) -> int:
    return max(1, int((deadline - time.monotonic()) * 1000))


def _bootstrapped(kafka_client: Any, bootstrap_timeout_ms: int, **configuration: Any) -> ClosingClient:
    """The driver's connections, once one to a broker is ready."""
    client: ClosingClient = kafka_client(**configuration)
    client.get_broker_version(timeout_ms=bootstrap_timeout_ms)
    return client
