"""Everything that is written down while a run goes on, each line as it happens: ``clients.jsonl``, ``faults.jsonl`` and
``unexpected.jsonl``. Only counts stay in memory."""

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.proof.record import Observed, Read, Request, write

_EPOCH = time.time() - time.monotonic()


def clock() -> float:
    """Seconds since the epoch, for all threads of a run; never goes back."""
    return _EPOCH + time.monotonic()


class Injected(NamedTuple):
    """A fault: it began to work, and what had caused it was over (restarted and ready, continued, healed)."""

    lane: str
    kind: str
    target: str
    which: str
    began: float
    ended: float

    @property
    def name(self) -> str:
        return f"{self.kind} {self.target}"


class Unexpected(NamedTuple):
    """An answer that the HTTP interface never promises, or one that came too late."""

    client: str
    sent: float
    ended: float
    what: str
    master: str
    """The one that was asked."""
    late: bool = False


class Records:
    """The files of a run, and the counts of its report. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._clients = (folder / "clients.jsonl").open("a")
        self._faults = (folder / "faults.jsonl").open("a")
        self._unexpected = (folder / "unexpected.jsonl").open("a")
        self._lock = threading.Lock()
        self.sent: Counter[str] = Counter()
        """Requests for commands by kind; a retry is another one."""
        self.answers: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        """Accepted requests by kind, retries too."""
        self.keys = 0
        """Commands that were accepted, retries not counted."""
        self.observed: Counter[str] = Counter()
        self.faults: list[Injected] = []
        self.unexpected: list[Unexpected] = []

    def write(self, record: Request | Observed | Read) -> None:
        with self._lock:
            write(self._clients, record)
            match record:
                case Request():
                    self.sent[record.kind] += 1
                    self.answers[f"{record.status} {record.reason}".strip()] += 1
                    self.accepted[record.kind] += record.accepted
                case Observed():
                    self.observed[f"{record.status} {record.reason}".strip()] += 1

    def count_key(self) -> None:
        with self._lock:
            self.keys += 1

    def fault(self, fault: Injected) -> None:
        with self._lock:
            self.faults.append(fault)
            self._faults.write(json.dumps(fault._asdict()) + "\n")
            self._faults.flush()

    def surprise(self, found: Unexpected) -> None:
        with self._lock:
            self.unexpected.append(found)
            self._unexpected.write(json.dumps(found._asdict()) + "\n")
            self._unexpected.flush()

    def kills(self) -> int:
        with self._lock:
            return sum(fault.kind == "kill" for fault in self.faults)

    def flush(self) -> None:
        with self._lock:
            self._clients.flush()

    def close(self) -> None:
        for file in (self._clients, self._faults, self._unexpected):
            file.close()
