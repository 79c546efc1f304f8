"""Rows of an import file: a code, its first day and its last day, separated by commas.

Each line is parsed by itself, so that a stray quotation mark spoils one row and not the rest of the file.
"""

import csv
import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from itertools import count
from typing import NamedTuple, TextIO

from coupon.domain.codes import parse
from coupon.domain.errors import InvalidCode, UnusableFile
from coupon.domain.model import Day

COLUMNS = 3
LINE_MAX = 1_000
"""The most characters of a line that are read: a file may be one endless line."""
_DAY = re.compile(r"\d{8}|\d{4}-\d\d-\d\d", re.ASCII)


class Row(NamedTuple):
    """A good row; ``text`` is the line as it stands in the file."""

    line: int
    text: str
    code: str
    valid_from: Day
    expire_at: Day


class BadRow(NamedTuple):
    """A row that cannot be imported, with the reason."""

    line: int
    text: str
    reason: str


class _Bad(ValueError):
    """The message is the reason."""


def open_rows(path: str) -> TextIO:
    """The file, to be read by ``rows``, from the beginning and more than once. Bytes that are not UTF-8 make their row
    bad, not the file. Raises UnusableFile, OSError."""
    file = open(path, encoding="utf-8-sig", errors="surrogateescape")  # noqa: SIM115 - the caller closes it
    try:
        if not file.seekable():
            raise UnusableFile(f"{path} cannot be read twice (is it a pipe?): save it as a file first")
        if "\0" in file.read(LINE_MAX):
            raise UnusableFile(f"{path} is not a text file in UTF-8")
    except BaseException:
        file.close()
        raise
    return file


def rows(file: TextIO) -> Iterator[Row | BadRow]:
    """All rows from the beginning of the file, without a header and empty lines."""
    file.seek(0)
    first = True
    for line, text in _lines(file):
        if text.isspace() or not text:
            continue
        if first and _is_header(text):
            first = False
            continue
        first = False
        yield _row(line, text)


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Line numbers and lines, each of up to ``LINE_MAX + 1`` characters."""
    for number in count(1):
        line = file.readline(LINE_MAX + 1)
        if not line:
            return
        text = line.rstrip("\n")
        if len(text) > LINE_MAX:
            _skip_line(file)
        yield number, text


def _skip_line(file: TextIO) -> None:
    while (rest := file.readline(LINE_MAX)) and not rest.endswith("\n"):
        pass


def _is_header(text: str) -> bool:
    """Whether the line is words only: a row of data has digits in its days, or a code."""
    cells = _cells(text)
    if len(cells) != COLUMNS or any(not cell or any(map(str.isdigit, cell)) for cell in cells):
        return False
    try:
        parse(cells[0])
    except InvalidCode:
        return True
    return False


def _row(line: int, text: str) -> Row | BadRow:
    try:
        _check_text(text)
        cells = _cells(text)
        if len(cells) != COLUMNS:
            raise _Bad(f"a row has {COLUMNS} columns, this one has {len(cells)}")
        code = parse(cells[0])
        valid_from, expire_at = _day("the first day", cells[1]), _day("the last day", cells[2])
        if expire_at < valid_from:
            raise _Bad(f"the last day {expire_at} is before the first day {valid_from}")
    except (_Bad, InvalidCode) as error:
        return BadRow(line, text, str(error))
    return Row(line, text, code, valid_from, expire_at)


def _check_text(text: str) -> None:
    if len(text) > LINE_MAX:
        raise _Bad(f"the line is longer than {LINE_MAX} characters")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Bad("the line is not UTF-8") from error


def _cells(text: str) -> list[str]:
    cells = next(csv.reader([text], skipinitialspace=True)) if '"' in text else text.split(",")
    return [cell.strip() for cell in cells]


@lru_cache(4096)
def _day(which: str, text: str) -> Day:
    if not _DAY.fullmatch(text):
        raise _Bad(f"{which} {text!r} is not written as 20261231 or 2026-12-31")
    try:
        return Day(date.fromisoformat(text).isoformat())
    except ValueError as error:
        raise _Bad(f"{which} {text!r} is not in the calendar") from error
