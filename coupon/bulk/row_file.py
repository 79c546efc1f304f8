"""An import file: its rows, read line by line from the beginning, as often as they are needed."""

import os
from collections.abc import Iterator
from itertools import count
from typing import Self, TextIO

from coupon.bulk.columns import NO_DAYS, Days, find_columns
from coupon.bulk.csv_rows import LINE_MAX, BadRow, Row, RowParser
from coupon.domain.errors import UnusableFile


class RowFile:
    """A file of rows, which is read from the beginning as often as it is iterated. A context manager."""

    def __init__(self, file: TextIO, days: Days, path: str) -> None:
        self._file = file
        self.header_line, first = next(self._texts(), (0, ""))
        self.columns = find_columns(first, days, path)

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    @property
    def read_bytes(self) -> int:
        """How far it was read."""
        return self._file.buffer.tell()

    def __iter__(self) -> Iterator[Row | BadRow]:
        """All rows, without empty lines and the header, which may stand in the middle too."""
        row_of, header = RowParser(self.columns), self.columns.header
        for line, text in self._texts():
            if text != header:
                yield row_of(line, text)

    def _texts(self) -> Iterator[tuple[int, str]]:
        self._file.seek(0)
        return _lines(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def open_rows(path: str, days: Days = NO_DAYS) -> RowFile:
    """The file, with days for rows that have none. Bytes that are not UTF-8 make their row bad, not the file. Raises
    UnusableFile, OSError."""
    file = open(path, encoding="utf-8-sig", errors="surrogateescape")  # noqa: SIM115 - the caller closes it
    try:
        if not file.seekable():
            raise UnusableFile(f"{path} cannot be read twice (is it a pipe?): save it as a file first")
        if "\0" in file.read(LINE_MAX):
            raise UnusableFile(f"{path} is not a text file in UTF-8: a spreadsheet saves one as CSV UTF-8")
        return RowFile(file, days, path)
    except BaseException:
        file.close()
        raise


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Numbers and texts of lines that have one: up to ``LINE_MAX + 1`` characters, without a byte order mark."""
    for number in count(1):
        line = file.readline(LINE_MAX + 1)
        if not line:
            return
        text = line.rstrip("\n")
        if len(text) > LINE_MAX:
            _skip_line(file)
        if not text.isascii():
            text = text.lstrip("\ufeff")
        if text and not text.isspace():
            yield number, text


def _skip_line(file: TextIO) -> None:
    while (rest := file.readline(LINE_MAX)) and not rest.endswith("\n"):
        pass
