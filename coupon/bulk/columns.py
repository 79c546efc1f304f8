"""Which cells of an import file's rows are the code and the days: by the names of a header, or by their places."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from coupon.bulk.cells import split, unescape
from coupon.domain.codes import parse
from coupon.domain.errors import InvalidCode, UnusableFile
from coupon.domain.model import Day

CODE, VALID_FROM, EXPIRE_AT, USER_ID, ISSUED = "couponCode", "validFrom", "expireAt", "userId", "issued"
PLACES = (CODE, VALID_FROM, EXPIRE_AT)
"""The columns of a file without a header."""
ADDED = ("rejectedBecause", "line")
"""The last columns of a file of rejected rows."""
SEPARATORS: Mapping[str, str] = {",": "commas", ";": "semicolons", "\t": "tabs"}
TOLD: Mapping[str, str] = {CODE: "the code", VALID_FROM: "the first day", EXPIRE_AT: "the last day"}
OPTIONS: Mapping[str, str] = {VALID_FROM: "--valid-from", EXPIRE_AT: "--expire-at"}
_OTHER_NAMES: Mapping[str, Sequence[str]] = {
    CODE: ("code", "coupon"),
    VALID_FROM: ("from", "firstday", "start", "startdate", "validfromdate"),
    EXPIRE_AT: ("to", "lastday", "end", "enddate", "until", "expires", "expiry", "expirydate", "validto", "validuntil"),
    USER_ID: (),
    ISSUED: (),
}
_KNOWN = {other: name for name, others in _OTHER_NAMES.items() for other in (name.lower(), *others)}
"""What a column is, by the letters and digits of its name in lower case."""


class Days(NamedTuple):
    """The days of rows that have none."""

    valid_from: Day | None = None
    expire_at: Day | None = None

    def has(self, name: str) -> bool:
        return {VALID_FROM: self.valid_from, EXPIRE_AT: self.expire_at}.get(name) is not None


NO_DAYS = Days()


class Columns(NamedTuple):
    """``places`` has the index of each known column in a row. ``header`` is the first line, if it is one."""

    separator: str
    names: Sequence[str]
    places: Mapping[str, int]
    days: Days
    header: str | None = None
    is_known: bool = True
    """Whether the columns were found by the header's names."""

    @property
    def own(self) -> int:
        """How many columns the file of the rows had, before rows were rejected."""
        return len(self.names) - (len(ADDED) if tuple(self.names[-len(ADDED) :]) == ADDED else 0)

    @property
    def needed(self) -> int:
        """The fewest cells of a row."""
        return 1 + max(place for name, place in self.places.items() if name in PLACES and not self.days.has(name))

    def sentence(self) -> str:
        """What was taken for a header, and what it says of the columns."""
        if not self.is_known:
            places = ", ".join(TOLD[name] for name in PLACES)
            return f"taken for a header of other names ({self.header}); the columns are taken as {places}"
        told = ", ".join(f"{self.names[self.places[name]]} is {TOLD[name]}" for name in PLACES if name in self.places)
        others = len(self.names) - sum(name in self.places for name in PLACES)
        return f"taken for a header: {told}" + (f"; {others} other columns are not imported" if others else "")


def find_columns(line: str, days: Days, path: str) -> Columns:
    """The columns of a file whose first line with a text is this one. Raises UnusableFile for a header that does not
    name what a row needs."""
    separator = max(SEPARATORS, key=lambda each: len(split(line, each)))
    names = [unescape(cell.strip()) for cell in split(line, separator)]
    while names and not names[-1]:
        names.pop()
    kinds = [_KNOWN.get("".join(filter(str.isalnum, name.lower()))) for name in names]
    missing = [name for name in PLACES if name not in kinds and not days.has(name)]
    if not missing or (CODE in kinds and _is_words(names)):
        return Columns(separator, names, _places(names, kinds, missing, path), days, line)
    by_place = {name: place for place, name in enumerate(PLACES)}
    if _is_words(names) and len(names) in (len(PLACES), sum(not days.has(name) for name in PLACES)):
        return Columns(separator, [*names, *PLACES[len(names) :]], by_place, days, line, is_known=False)
    return Columns(separator, PLACES, by_place, days)


def _places(names: list[str], kinds: list[str | None], missing: list[str], path: str) -> dict[str, int]:
    if missing:
        name = missing[0]
        raise UnusableFile(f"{path} has a header without a column for {TOLD[name]} ({name}); {OPTIONS[name]} gives one")
    for name in filter(None, kinds):
        if kinds.count(name) > 1:
            both = " and ".join(repr(names[place]) for place, kind in enumerate(kinds) if kind == name)
            raise UnusableFile(f"{path} has a header with several columns for {TOLD.get(name, name)}: {both}")
    return {name: place for place, name in enumerate(kinds) if name}


def _is_words(cells: list[str]) -> bool:
    """Whether these are words only: a row of data has digits in its days, or a code."""
    if not cells or any(not cell or any(map(str.isdigit, cell)) for cell in cells):
        return False
    try:
        parse(cells[0])
    except InvalidCode:
        return True
    return False
