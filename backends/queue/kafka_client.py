"""Making clients of kafka-python, and translating its errors to the contract's.

The driver may raise any error. We saw its own, the socket's, and the RuntimeError of an I/O loop that has ended. A race
of the loop with itself raised an AttributeError. A few of them mean that a request will never succeed: these become
BackendRejected. The rest become BackendUnavailable, and the client that raised is replaced.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Self, TypeVar

from kafka import KafkaAdminClient, errors

from backends.queue import kafka_security
from backends.queue.kafka_fixes import ClosingClient
from coupon.domain.errors import BackendError, BackendRejected, BackendUnavailable
from coupon.ports.url import Url

REFUSALS = (
    errors.InvalidTopicError,
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidRecordError,
    errors.UnknownTopicOrPartitionError,
    errors.InvalidPartitionsError,
    errors.InvalidReplicationFactorError,
    errors.InvalidConfigurationError,
    errors.PolicyViolationError,
    errors.InvalidSessionTimeoutError,
    errors.KafkaConfigurationError,
)
Result = TypeVar("Result")


@contextmanager
def driver_errors() -> Iterator[None]:
    """Raise the driver's errors as the contract's two."""
    try:
        yield
    except BackendError:
        raise
    except REFUSALS as error:
        raise BackendRejected(f"Kafka refused: {error_text(error)}") from error
    except Exception as error:
        raise BackendUnavailable(f"Kafka is unavailable: {error_text(error)}") from error


def error_text(error: Exception) -> str:
    return str(error) if isinstance(error, errors.KafkaError) else repr(error)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The addresses of the brokers, their timeout, and the prefix of our topics."""

    servers: tuple[str, ...]
    prefix: str
    partitions: int
    replicas: int
    timeout_s: float
    session_timeout_s: float
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The driver's settings for TLS and SASL, with the password."""

    @classmethod
    def from_url(cls, url: Url) -> Self:
        servers = tuple(f"{host}:{port}" for host, port in url.addresses(9092))
        options = url.options(
            prefix="coupon.",
            partitions=8,
            replicas=1,
            timeout_s=3.0,
            session_timeout_s=6.0,
            **kafka_security.OPTIONS,
        )
        security = {name: options.pop(name) for name in kafka_security.OPTIONS}
        return cls(servers, **options, security=kafka_security.security(url, **security))

    @property
    def is_secured(self) -> bool:
        """Whether a connection begins with TLS or a login."""
        return self.security.get("ssl_context") is not None or "sasl_mechanism" in self.security

    @property
    def how(self) -> str:
        """How brokers are asked."""
        tls = "without TLS" if self.security.get("ssl_context") is None else "with TLS"
        return f"{tls} and {self.security.get('sasl_mechanism', 'without a user')}"

    @property
    def timeout_ms(self) -> int:
        return int(self.timeout_s * 1000)

    def connect(self, kind: Callable[..., Any], within_s: float, **options: Any) -> tuple[Any, Any]:
        """A client of that kind that is connected, and its connections. A failure leaves nothing behind: the driver
        itself would leave a thread and sockets."""
        connections: list[Any] = []

        def connect(**configuration: Any) -> Any:
            connections.append(ClosingClient(within_s, **configuration))
            return connections[-1]

        defaults: dict[str, Any] = {
            **self.security,
            "bootstrap_servers": list(self.servers),
            "bootstrap_timeout_ms": int(within_s * 1000),
            "kafka_client": connect,
            "client_id": "coupon",
            "reconnect_backoff_max_ms": 1_000,
            "metadata_max_age_ms": 60_000,
        }
        try:
            return kind(**(defaults | options)), connections[0]
        except BaseException as error:
            failure = connections[0].failure if connections else None
            for connection in connections:
                connection.close()
            if isinstance(error, errors.KafkaTimeoutError) and failure is not None:
                raise self._no_way_in(failure) from error  # the driver only says that it had no time for more tries
            raise

    def ask(self, question: Callable[[Any], Result], within_s: float) -> Result:
        """The answer to a question of an admin client. It is asked again while the cluster is not ready for it."""
        deadline = time.monotonic() + within_s
        with driver_errors():
            admin, connections = self.connect(KafkaAdminClient, within_s, request_timeout_ms=int(within_s * 1000))
            try:
                while True:
                    try:
                        return question(admin)
                    except errors.UnknownTopicOrPartitionError:
                        raise
                    except errors.RetriableError as error:
                        if time.monotonic() > deadline:
                            raise connections.failure or error from error
                        time.sleep(0.1)
            finally:
                admin.close()

    def _no_way_in(self, failure: Exception) -> Exception:
        """A broker that wants TLS or a password hangs up without a reason: so it is said how we came."""
        if not isinstance(failure, errors.KafkaConnectionError | errors.KafkaProtocolError):
            return failure
        reason = failure.args[0] if failure.args else "no connection"
        told: Exception = errors.KafkaConnectionError(f"{reason} (asked {self.how})")
        return told

    def leaders_of(self, admin: Any, topics: list[str]) -> dict[str, list[int]]:
        """For each topic, by its name without the prefix, the broker that leads each partition; -1 while none does.
        Raises UnknownTopicOrPartitionError."""
        leaders = {}
        for described in admin.describe_topics([self.prefix + topic for topic in topics]):
            if described["error_code"]:
                raise errors.for_code(described["error_code"])(f"topic {described['name']!r}")
            partitions = sorted(described["partitions"], key=itemgetter("partition_index"))
            leaders[described["name"].removeprefix(self.prefix)] = [each["leader_id"] for each in partitions]
        return leaders


def verified(client: Any, **expected: Any) -> None:
    """Raise unless the client has these settings: the driver changes settings that conflict, and commands could be
    lost."""
    for name, value in expected.items():
        if client.config[name] != value:
            raise errors.KafkaConfigurationError(f"{name} is {client.config[name]!r} and not {value!r}")
