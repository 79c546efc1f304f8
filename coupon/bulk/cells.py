"""Cells of CSV files that spreadsheets open: escaped, so that none is run as a formula, and back.

A cell that a spreadsheet would run gets an apostrophe before it, as does one that begins with an apostrophe. So taking
one away gives back every cell.
"""

import csv
from typing import Any

ESCAPE = "'"
_RUN = frozenset("=+-@\t\r\n＝＋－＠\u00a0\u200b\u3000\ufeff" + ESCAPE)
"""What a formula begins with, in full width too, and blanks that spreadsheets skip before one, invisible ones too."""


def escape(cell: Any) -> Any:
    """The cell as a spreadsheet may open it. What is no text cannot be a formula."""
    return f"{ESCAPE}{cell}" if isinstance(cell, str) and cell[:1] in _RUN and cell else cell


def unescape(cell: str) -> str:
    """What ``escape`` was given."""
    return cell[1:] if cell.startswith(ESCAPE) else cell


def split(line: str, separator: str) -> list[str]:
    """The line's cells, as they stand in it."""
    if '"' not in line:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True))
