"""Everything that is written down while a run goes on, each line as it happens: ``clients.jsonl``, ``faults.jsonl``,
``unexpected.jsonl`` and ``probed.jsonl``. Only counts stay in memory, and what is rare."""

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from tests.proof.record import Observed, Read, Request, write

AFTERWARDS = "afterwards"
"""The client that asks when the run has come to rest."""
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
    limit_s: float = 10.0
    """Within which it was to come."""


class Probed(NamedTuple):
    """A command of the probe's that was accepted; ``applied`` is when the store was seen to hold it."""

    sent: float
    accepted: float
    applied: float | None


class Saved:
    """What was written down, but for the clients' records."""

    def __init__(self, folder: Path) -> None:
        self.faults = [Injected(**line) for line in _lines(folder / "faults.jsonl")]
        self.unexpected = [Unexpected(**line) for line in _lines(folder / "unexpected.jsonl")]
        probed = folder / "probed.jsonl"
        self.probed = [Probed(**line) for line in _lines(probed)] if probed.exists() else None
        """None: of a run that did not write it down."""


class Records:
    """The files of a run, and the counts of its report. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._clients = (folder / "clients.jsonl").open("a")
        self._faults = (folder / "faults.jsonl").open("a")
        self._unexpected = (folder / "unexpected.jsonl").open("a")
        self._probed = (folder / "probed.jsonl").open("a")
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
            _write(self._faults, fault)

    def surprise(self, found: Unexpected) -> None:
        with self._lock:
            _write(self._unexpected, found)

    def probe(self, probed: Probed) -> None:
        with self._lock:
            _write(self._probed, probed)

    def kills(self) -> int:
        with self._lock:
            return sum(fault.kind == "kill" for fault in self.faults)

    def flush(self) -> None:
        with self._lock:
            self._clients.flush()

    def close(self) -> None:
        for file in (self._clients, self._faults, self._unexpected, self._probed):
            file.close()


def _write(file: TextIO, record: Injected | Unexpected | Probed) -> None:
    file.write(json.dumps(record._asdict()) + "\n")
    file.flush()


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open() as file:
        return [json.loads(line) for line in file]
