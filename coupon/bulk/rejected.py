"""The file of an import's bad rows: each row as it was, then what is wrong with it, to be corrected and imported."""

import csv
import os
from filecmp import cmp
from itertools import count
from pathlib import Path
from typing import Any, Self, TextIO

from coupon.bulk.cells import escape, split, unescape
from coupon.bulk.columns import ADDED, Columns
from coupon.bulk.csv_rows import BadRow
from coupon.bulk.files import create


class RejectedRows:
    """It is made with the first row, and never over another file: ``FILE.rejected.csv``, or else
    ``FILE.rejected-2.csv``, and so on. An earlier one that is the same serves again. A context manager."""

    def __init__(self, file: str, columns: Columns) -> None:
        self._paths = (Path(f"{file}.rejected{f'-{number}' if number > 1 else ''}.csv") for number in count(1))
        self._earlier: list[Path] = []
        self._separator, self._width = columns.separator, len(columns.names)
        self._names = columns.names[: columns.own]
        self._out: TextIO | None = None
        self._writer: Any = None
        self.path: Path | None = None
        """None as long as there is no row."""

    def add(self, row: BadRow) -> None:
        """With the separator of the file that was read: what opens that file opens this one."""
        if self._out is None:
            self._out = self._create()
            self._writer = csv.writer(self._out, delimiter=self._separator, lineterminator="\n")
            self._writer.writerow([*map(escape, self._names), *ADDED])
        self._writer.writerow([escape(cell) for cell in (*self._cells(row.text), row.reason, row.line)])

    def _cells(self, text: str) -> list[str]:
        """As many as the header has names, at least."""
        cells, own = [unescape(cell) for cell in split(text, self._separator)], len(self._names)
        if own < self._width <= len(cells):  # it was rejected before
            del cells[-len(ADDED) :]
        while len(cells) > own and not cells[-1].strip():
            cells.pop()
        return cells + [""] * (own - len(cells))

    def _create(self) -> TextIO:
        for path in self._paths:
            try:
                out = create(path)
            except FileExistsError:
                self._earlier.append(path)
            else:
                self.path = path
                return out
        raise AssertionError("names never end")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is None or self.path is None:
            return
        self._out.close()
        for earlier in self._earlier:
            if _is_file(earlier) and cmp(earlier, self.path, shallow=False):
                self.path.unlink()
                self.path = earlier
                return


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)
