"""The consumers that a queue has given out: they are closed with it."""

from typing import Generic, Protocol, TypeVar

from coupon.domain.errors import BackendUnavailable


class Closable(Protocol):
    closed: bool

    def close(self) -> None: ...


AnyConsumer = TypeVar("AnyConsumer", bound=Closable)


class Consumers(Generic[AnyConsumer]):
    def __init__(self) -> None:
        self._open: list[AnyConsumer] = []
        self._closed = False

    def add(self, consumer: AnyConsumer) -> AnyConsumer:
        self._open = [*(other for other in self._open if not other.closed), consumer]
        return consumer

    def check_open(self) -> None:
        """Raise BackendUnavailable once all were closed: no other one may be made."""
        if self._closed:
            raise BackendUnavailable("the queue was closed")

    def close(self) -> None:
        self._closed = True
        for consumer in self._open:
            consumer.close()
