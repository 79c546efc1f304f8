"""A running service on the real servers, what there is to do for it, and what its workers say that they have done."""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from coupon.acceptance.creations import ImportChunk
from coupon.acceptance.service import CommandService
from coupon.domain.model import Coupon, Kind, create
from coupon.domain.serialization import encode_command
from coupon.domain.topics import LAYOUTS
from coupon.ports.queue import Message
from coupon.runtime.settings import Settings
from coupon.runtime.wiring import Backends
from tests.bench.web_cpu import FIRST, LAST
from tests.coupons import a_command, a_creation
from tests.e2e.deployment import Deployment

WORKERS = 3
"""While one waits for the store, the others may wait for search or the queue."""
DONE_WITHIN_S = 180
SAVED_AT_ONCE = 5_000


class Part(NamedTuple):
    """What a worker applied in one go.

    It has the time when that was done (seconds since the epoch), the operations of its commands, and the number of
    coupons that it created.
    """

    at: float
    applied: Sequence[str]
    created: int

    @property
    def size(self) -> int:
        return len(self.applied) + self.created


class WorkerLog:
    """What the workers say, from now on."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("rb")
        self._file.seek(0, os.SEEK_END)
        self._begun = b""
        self.parts: list[Part] = []

    def read(self) -> list[Part]:
        """All parts so far."""
        *lines, self._begun = (self._begun + self._file.read()).split(b"\n")
        for line in lines:
            if b'"applied"' in line or b'"created"' in line:
                entry = json.loads(line)
                at, operations = datetime.fromisoformat(entry["timestamp"]).timestamp(), entry["operations"]
                is_creation = entry["event"] == "created"
                self.parts.append(Part(at, [], sum(operations.values())) if is_creation else Part(at, operations, 0))
        return self.parts

    def read_until(self, number: int) -> list[Part]:
        """Wait until so many commands and coupons are done."""
        deadline = time.monotonic() + DONE_WITHIN_S
        while (done := sum(part.size for part in self.read())) < number:
            assert time.monotonic() < deadline, f"{done:,} of {number:,} done in {DONE_WITHIN_S} s"
            time.sleep(0.1)
        return self.parts

    def close(self) -> None:
        self._file.close()


class Running:
    """The service, and commands for its workers."""

    def __init__(self, loaded: Settings, backends: Backends, deployment: Deployment) -> None:
        self.backends, self.deployment = backends, deployment
        self.service = CommandService(backends, loaded)
        self.workers = [worker.pid for worker in deployment.workers]
        self._topics = LAYOUTS[loaded.topics]

    def log(self) -> WorkerLog:
        return WorkerLog(self.deployment.folder / "worker.log")

    def applied_a_second(
        self,
        number: int,
        publish: Callable[[], object],
        meanwhile: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it has no state
    ) -> float:
        """Commands a second, from the end of the first part to the end of the last.

        It publishes so many while the workers are stopped. In the context it lets them go on, and waits until all is
        done.
        """
        log = self.log()
        for pid in self.workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            publish()
        finally:
            for pid in self.workers:
                os.kill(pid, signal.SIGCONT)
        with meanwhile:
            first, *others = sorted(log.read_until(number))
        log.close()
        return sum(part.size for part in others) / (others[-1].at - first.at)

    def publish_creations(self, number: int) -> None:
        """Each of one coupon."""
        operation = self.service.code_deriver.operation("bench", None)
        codes = self.service.code_deriver.codes(operation, 0, number)
        self.service.import_chunks(operation, [ImportChunk((code,), FIRST, LAST) for code in codes], "bench")

    def publish_issues(self, coupons: Sequence[Coupon]) -> None:
        commands = [
            a_command(
                Kind.ISSUE,
                self.service.code_deriver.operation("bench", None),
                previous=coupon.last_operation,
                code=coupon.code,
                user_id=f"user {number // 5}",
            )
            for number, coupon in enumerate(coupons)
        ]
        topic = self._topics[Kind.ISSUE]
        self.backends.queue.publish([Message(topic, c.code, encode_command(c)) for c in commands])

    def stored(self, number: int) -> list[Coupon]:
        return stored(self.service, self.backends, number)

    def fresh(self, number: int) -> list[Coupon]:
        return fresh(self.service, number)


def stored(service: CommandService, backends: Backends, number: int) -> list[Coupon]:
    """So many new coupons, which the store has; nobody sent a command for it."""
    coupons = fresh(service, number)
    for first in range(0, number, SAVED_AT_ONCE):
        backends.store.save_many(coupons[first : first + SAVED_AT_ONCE])
    return coupons


def fresh(service: CommandService, number: int) -> list[Coupon]:
    """So many, of one creation, which the store does not have."""
    operation = service.code_deriver.operation("bench", None)
    born = a_creation(amount=number, operation=operation, valid_from=FIRST, expire_at=LAST)
    return [create(born, code) for code in service.code_deriver.codes(born.operation, 0, number)]
