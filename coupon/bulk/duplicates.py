"""Finds the rows of a file whose code is on an earlier line too, exactly and in flat memory, whatever the file's size.

Each code goes to one of many temporary files, chosen by its hash, so all occurrences of a code are in the same file.
Each file is small enough to be searched in memory. The files have no name, so they vanish even after ``kill -9``. They
take about 25 bytes a row in the folder that ``TMPDIR`` names.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from heapq import merge
from tempfile import TemporaryFile
from typing import IO, NamedTuple, Self

BUCKET_BYTES = 4_000_000
"""Bytes of the import file for each bucket: about 100,000 codes, which take 15 MB while they are searched."""
BUCKETS_MAX = 256
"""The most files that are open at once."""


class Duplicate(NamedTuple):
    """The row on ``line`` has the same code as that on ``first``."""

    line: int
    first: int


class DuplicateFinder:
    """``add`` each code with its line, in the order of the lines, then call ``duplicates`` once. A context manager."""

    def __init__(self, file_bytes: int) -> None:
        self._count = min(file_bytes // BUCKET_BYTES + 1, BUCKETS_MAX)
        self._files = ExitStack()
        self._buckets = [self._file() for _ in range(self._count)]

    def add(self, code: str, line: int) -> None:
        self._buckets[hash(code) % self._count].write(f"{code} {line}\n")

    def duplicates(self) -> Iterator[Duplicate]:
        """All but the first occurrence of each code, by ascending line."""
        return merge(*map(_read, [self._later_ones(bucket) for bucket in self._buckets]))

    def _later_ones(self, bucket: IO[str]) -> IO[str]:
        """A file with the bucket's duplicates; closes the bucket."""
        first_lines: dict[str, str] = {}
        found = self._file()
        bucket.seek(0)
        for entry in bucket:
            code, line = entry.split()
            first = first_lines.setdefault(code, line)
            if first is not line:
                found.write(f"{line} {first}\n")
        bucket.close()
        return found

    def _file(self) -> IO[str]:
        return self._files.enter_context(TemporaryFile("w+", encoding="ascii"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()


def _read(found: IO[str]) -> Iterator[Duplicate]:
    found.seek(0)
    for entry in found:
        line, first = entry.split()
        yield Duplicate(int(line), int(first))
