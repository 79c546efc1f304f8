"""Backends that fail on demand, at any of their methods: what a driver's edge does when its server is away."""

from collections.abc import Callable, Sequence
from typing import Any

from coupon.domain.errors import BackendUnavailable
from coupon.domain.topics import OUTBOX
from coupon.ports.group_commit import NotServed
from coupon.ports.queue import Consumer, Delivery, Message, Position


class Faulty:
    """Stands before a backend.

    ``before[method]`` holds for each of its next calls an error to raise before the call, or None to let it pass.
    ``after[method]`` holds the same for when the call was applied: a lost reply.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.before: dict[str, list[Exception | None]] = {}
        self.after: dict[str, list[Exception | None]] = {}
        self.down = False
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._backend, name)
        return self._guarded(name, value) if callable(value) else value

    def _guarded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self.down:
                raise BackendUnavailable(f"{name}: down")
            _raise_next(self.before.get(name))
            answer = method(*args, **kwargs)
            _raise_next(self.after.get(name))
            return answer

        return call


class NeverServed:
    """A group that never begins, so that each command is accepted alone."""

    def __init__(self, _serve: Callable[[Sequence[Any], float], None]) -> None:
        pass

    def do(self, _work: Any, _deadline: float, _begin_by: float | None = None, _patience: Any = None) -> None:
        raise NotServed


class WatchedConsumer(Faulty):
    """A consumer that remembers how long it was last asked to wait, and of which partitions it delivered."""

    def __init__(self, consumer: Consumer, topics: Sequence[str]) -> None:
        super().__init__(consumer)
        self.topics = list(topics)
        self.timeout_s: float | None = None
        self.positions: set[Position] = set()

    def poll(self, max_messages: int, timeout_s: float) -> list[Delivery]:
        self.timeout_s = timeout_s
        deliveries: list[Delivery] = self._guarded("poll", self._backend.poll)(max_messages, 0)
        self.positions |= {Position(delivery.topic, delivery.partition) for delivery in deliveries}
        return deliveries


def _raise_next(errors: list[Exception | None] | None) -> None:
    error = errors.pop(0) if errors else None
    if error is not None:
        raise error


def away() -> BackendUnavailable:
    return BackendUnavailable("injected")


class Between:
    """A queue whose caller is held up once: behind its question for the end of a coupon's partition, or before its
    command is published."""

    def __init__(
        self,
        queue: Any,
        *,
        after_ends: Callable[[], None] | None = None,
        before_publish: Callable[[], None] | None = None,
    ) -> None:
        self._queue, self._after_ends, self._before_publish = queue, after_ends, before_publish

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def ends(self, topics: list[str], key: str | None = None) -> Any:
        ends = self._queue.ends(topics, key)
        meanwhile = self._after_ends if key is not None else None
        if meanwhile:
            self._after_ends = None
            meanwhile()
        return ends

    def publish(self, messages: list[Message]) -> None:
        is_command = any(message.topic not in OUTBOX for message in messages)
        meanwhile = self._before_publish if is_command else None
        if meanwhile:
            self._before_publish = None
            meanwhile()
        self._queue.publish(messages)
