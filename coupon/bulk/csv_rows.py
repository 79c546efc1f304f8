"""Rows of an import file: a code, its first day and its last day, separated by commas, semicolons or tabs.

Each line is parsed by itself, so that a stray quotation mark spoils one row and not the rest of the file.
"""

import os
import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from itertools import count
from typing import NamedTuple, Self, TextIO

from coupon.bulk.cells import split, unescape
from coupon.bulk.columns import (
    CODE,
    EXPIRE_AT,
    ISSUED,
    NO_DAYS,
    SEPARATORS,
    USER_ID,
    VALID_FROM,
    Columns,
    Days,
    find_columns,
)
from coupon.domain.codes import parse
from coupon.domain.errors import InvalidCode, UnusableFile
from coupon.domain.model import Day

LINE_MAX = 1_000
"""The most characters of a line that are read: a file may be one endless line."""
WIDTHLESS = "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060"
"""Characters without a width: byte order marks, which stand in the middle of files that were joined, and such."""
_DAY = re.compile(r"(\d{4})(?:(\d\d)(\d\d)|([-/])(\d\d?)\4(\d\d?))", re.ASCII)
_NUMBER = re.compile(r"\d([.,]\d*)?E\+?\d+", re.ASCII | re.IGNORECASE)
_NOT_ISSUED = ("", "false", "no", "0")


class Row(NamedTuple):
    """A good row; ``text`` is the line as it stands in the file. ``is_issued``: it tells of a coupon that somebody
    holds."""

    line: int
    text: str
    code: str
    valid_from: Day
    expire_at: Day
    is_issued: bool = False


class BadRow(NamedTuple):
    """A row that cannot be imported, with the reason."""

    line: int
    text: str
    reason: str


class _Bad(ValueError):
    """The message is the reason."""


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
        for line, text in self._texts():
            if text != self.columns.header:
                yield _row(line, text, self.columns)

    def _texts(self) -> Iterator[tuple[int, str]]:
        self._file.seek(0)
        return ((line, text) for line, text in _lines(self._file) if text and not text.isspace())

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
    """Line numbers and lines, each of up to ``LINE_MAX + 1`` characters, without a byte order mark."""
    for number in count(1):
        line = file.readline(LINE_MAX + 1)
        if not line:
            return
        text = line.rstrip("\n")
        if len(text) > LINE_MAX:
            _skip_line(file)
        yield number, text.lstrip("\ufeff")


def _skip_line(file: TextIO) -> None:
    while (rest := file.readline(LINE_MAX)) and not rest.endswith("\n"):
        pass


def _row(line: int, text: str, columns: Columns) -> Row | BadRow:
    try:
        _check_text(text)
        cells = _fitted(split(text, columns.separator), columns)
        code = _code(_clean(cells[columns.places[CODE]]))
        valid_from = _day("the first day", _cell(cells, columns, VALID_FROM), columns.days.valid_from)
        expire_at = _day("the last day", _cell(cells, columns, EXPIRE_AT), columns.days.expire_at)
        if expire_at < valid_from:
            raise _Bad(f"the last day {expire_at} is before the first day {valid_from}")
    except (_Bad, InvalidCode) as error:
        return BadRow(line, text, str(error))
    return Row(line, text, code, valid_from, expire_at, _is_issued(cells, columns))


def _check_text(text: str) -> None:
    if len(text) > LINE_MAX:
        raise _Bad(f"the line is longer than {LINE_MAX} characters")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Bad("the line is not UTF-8") from error


def _fitted(cells: list[str], columns: Columns) -> list[str]:
    """As many cells as there are columns: empty ones at the end are taken away, or added."""
    width = len(columns.names)
    while len(cells) > width and not cells[-1].strip():
        cells.pop()
    if not columns.needed <= len(cells) <= width:
        wrong = f"a row has {width} columns separated by {SEPARATORS[columns.separator]}, this one has {len(cells)}"
        raise _Bad(wrong if len(cells) > 1 else f"{wrong}; --valid-from and --expire-at give days to a file of codes")
    return cells + [""] * (width - len(cells))


def _cell(cells: list[str], columns: Columns, name: str) -> str:
    place = columns.places.get(name)
    return "" if place is None else _clean(cells[place])


def _clean(cell: str) -> str:
    cell = cell.strip()
    return unescape(cell) if cell.isascii() else unescape(cell.strip(WIDTHLESS).strip())


def _code(text: str) -> str:
    if _NUMBER.fullmatch(text):
        raise _Bad(f"a spreadsheet made the number {text} of the code: format its column as text, and save it again")
    return parse(text)


def _is_issued(cells: list[str], columns: Columns) -> bool:
    """By its holder, who may be called a blank, and by the word. Without a column for the holder, the word has to say
    no: spreadsheets write it in their language."""
    holder, word = columns.places.get(USER_ID), _cell(cells, columns, ISSUED).lower()
    return word not in _NOT_ISSUED if holder is None else cells[holder] != "" or word == "true"


@lru_cache(4096)
def _day(which: str, text: str, instead: Day | None) -> Day:
    """The day, or the one that rows without a day have."""
    if instead and not text:
        return instead
    try:
        return day_of(text)
    except ValueError as error:
        raise _Bad(f"{which} {error}") from error


def day_of(text: str) -> Day:
    """The day, written in one of three ways. Raises ValueError, which says what is wrong."""
    found = _DAY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not written as 20261231, 2026-12-31 or 2026/12/31")
    year, month, day = found[1], found[2] or found[5], found[3] or found[6]
    try:
        return Day(date(int(year), int(month), int(day)).isoformat())
    except ValueError as error:
        raise ValueError(f"{text!r} is not in the calendar") from error
