"""A folder in which the web processes of one gunicorn hand their numbers over: whoever is scraped shows their sum.

Each process replaces its file every second, by a rename, so that a reader sees it whole. When a process has ended,
the master adds its numbers to ``ended``, because counters must not fall, and then deletes its file. ``ended`` names the
files that it has. So a reader that saw a file before it was deleted does not count it twice, and needs no lock.

The folder belongs to one master, and is deleted with it. Counters begin at 0 again at its next start, as Prometheus
expects of a restart.
"""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from coupon.runtime.instruments import Numbers, added, numbers, without_gauges

INTERVAL_S = 1.0
NAMES_MAX = 1_000
"""So many names of ended processes are kept: a reader has long read files that were deleted before."""
SUFFIX, ENDED = ".process", "ended"
log = structlog.get_logger("coupon.metrics")


class _Ended(msgspec.Struct):
    """The sum over processes that have ended, and the names of their files."""

    names: list[str]
    numbers: Numbers


class MetricsFolder:
    """The folder, as the process sees it that made the object after its fork."""

    of_process: "MetricsFolder | None" = None
    """That in which this process hands its numbers over."""

    def __init__(self, path: Path) -> None:
        self._path, self._name = path, f"{os.getpid()}-{time.time_ns()}{SUFFIX}"
        self._writing = threading.Lock()

    def hand_over(self) -> None:
        """Write the numbers of this process. Raises OSError."""
        with self._writing:
            _write(self._path / self._name, _ENCODER.encode(numbers()))

    def keep_handing_over(self) -> None:
        """Do so every second from now on, in a thread."""

        def run() -> None:
            while True:
                try:
                    self.hand_over()
                except OSError as error:
                    log.warning("metrics not handed over", error=str(error))
                time.sleep(INTERVAL_S)

        threading.Thread(target=run, name="metrics", daemon=True).start()

    def read(self) -> Numbers:
        """The sums over all processes, this one as it is now."""
        found = dict(self._files())
        found.pop(self._name, None)
        ended = _read_ended(self._path)  # after the files: one that was deleted meanwhile is in there
        others = [numbers for name, numbers in found.items() if name not in ended.names]
        return added([ended.numbers, *others, numbers()])

    def _files(self) -> Iterator[tuple[str, Numbers]]:
        for file in self._path.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # the master was faster
                yield file.name, _DECODER.decode(file.read_bytes())


def make(parent: str | None) -> Path:
    """In the master: a new folder, which nobody but this user can read or write. Raises OSError."""
    return Path(tempfile.mkdtemp(prefix="coupon-metrics-", dir=parent))


def end(folder: Path, pid: int) -> None:
    """In the master: keep the numbers of a process that has ended."""
    try:
        for file in folder.glob(f"{pid}-*{SUFFIX}"):
            _end(folder, file)
    except OSError as error:
        log.warning("metrics not handed over", error=str(error))


def _end(folder: Path, file: Path) -> None:
    ended = _read_ended(folder)
    counted = without_gauges(_DECODER.decode(file.read_bytes()))
    names = [*ended.names, file.name][-NAMES_MAX:]
    _write(folder / ENDED, msgspec.msgpack.encode(_Ended(names, added([ended.numbers, counted]))))
    file.unlink()


def _read_ended(folder: Path) -> _Ended:
    try:
        return msgspec.msgpack.decode((folder / ENDED).read_bytes(), type=_Ended)
    except FileNotFoundError:
        return _Ended([], {})


def _write(path: Path, body: bytes) -> None:
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(body)
    draft.replace(path)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Numbers)
