"""Rows of an import file: a code, its first day and its last day, separated by commas, semicolons or tabs.

Each line is parsed by itself, so that a stray quotation mark spoils one row and not the rest of the file.
"""

import re
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from coupon.bulk.cells import split, unescape
from coupon.bulk.columns import (
    ADDED,
    CODE,
    EXPIRE_AT,
    ISSUED,
    SEPARATORS,
    USER_ID,
    VALID_FROM,
    Columns,
)
from coupon.domain.codes import parse
from coupon.domain.errors import InvalidCode
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


class RowParser:
    """Makes rows of lines. What follows from the columns is looked up once, not for each of a million lines."""

    def __init__(self, columns: Columns) -> None:
        self._columns, self._separator, self._width = columns, columns.separator, len(columns.names)
        self._own = columns.own
        self._code, self._needed = columns.places[CODE], columns.needed
        self._valid_from, self._expire_at = columns.places.get(VALID_FROM), columns.places.get(EXPIRE_AT)
        self._user_id, self._issued = columns.places.get(USER_ID), columns.places.get(ISSUED)
        self._days = columns.days
        self._tells_holders = not (self._user_id is None and self._issued is None)

    def __call__(self, line: int, text: str) -> Row | BadRow:
        try:
            is_plain = len(text) <= LINE_MAX and text.isascii() and not ("'" in text or '"' in text)  # as most are
            cells = text.split(self._separator) if is_plain else _cells(text, self._separator)
            if len(cells) != self._width:
                cells = self._fitted(cells)
            clean = str.strip if is_plain else _clean
            code = _code(clean(cells[self._code]))
            valid_from = _day("the first day", clean(_at(cells, self._valid_from)), self._days.valid_from)
            expire_at = _day("the last day", clean(_at(cells, self._expire_at)), self._days.expire_at)
            if expire_at < valid_from:
                raise _Bad(f"the last day {expire_at} is before the first day {valid_from}")
        except (_Bad, InvalidCode) as error:
            return BadRow(line, text, str(error))
        return Row(line, text, code, valid_from, expire_at, self._tells_holders and self._is_issued(cells))

    def _fitted(self, cells: list[str]) -> list[str]:
        """As many cells as there are columns: empty ones at the end of the row are taken away, or added."""
        added = cells[-len(ADDED) :] if self._own < self._width <= len(cells) else []
        cells = cells[: len(cells) - len(added)]
        while len(cells) > self._own and not cells[-1].strip():
            cells.pop()
        cells += added
        if self._needed <= len(cells) <= self._width:
            return cells + [""] * (self._width - len(cells))
        separated = f"{self._width} columns separated by {SEPARATORS[self._separator]}"
        hint = "; --valid-from and --expire-at give days to a file of codes" if len(cells) == 1 else ""
        raise _Bad(f"a row has {separated}, this one has {len(cells)}{hint}")

    def _is_issued(self, cells: list[str]) -> bool:
        """By its holder, who may be called a blank, and by the word. Without a column for the holder, the word has to
        say no: spreadsheets write it in their language."""
        word = _at(cells, self._issued).strip().lower()
        return word not in _NOT_ISSUED if self._user_id is None else cells[self._user_id] != "" or word == "true"


def _cells(text: str, separator: str) -> list[str]:
    if len(text) > LINE_MAX:
        raise _Bad(f"the line is longer than {LINE_MAX} characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Bad("the line is not UTF-8") from error
    return split(text, separator)


def _at(cells: list[str], place: int | None) -> str:
    return "" if place is None else cells[place]


def _clean(cell: str) -> str:
    return unescape(cell.strip().strip(WIDTHLESS).strip())


def _code(text: str) -> str:
    try:
        return parse(text)
    except InvalidCode as error:
        if not _NUMBER.fullmatch(text):
            raise
        wrong = f"a spreadsheet made the number {text} of the code: format its column as text, and save it again"
        raise _Bad(wrong) from error


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
