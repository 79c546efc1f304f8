"""Files with coupons: readable by their owner only, and never written through a link or over another file."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from coupon.domain.errors import UnusableFile

ROOT_UID = 0
"""Devices are root's."""


def create(path: Path) -> TextIO:
    """A new file. Raises FileExistsError for whatever has the name, a link too."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    return open(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="")


@contextmanager
def written(path: Path, replace: bool) -> Iterator[TextIO]:
    """A file that gets its name once it is complete; after an error there is nothing. A device or a pipe is written
    directly. Raises UnusableFile for a link, and for another file unless it is to be replaced."""
    kind = _kind(path)
    if kind is not None and not stat.S_ISREG(kind):
        with _opened(path, kind, replace) as out:
            yield out
        return
    if kind is not None and not replace:
        raise UnusableFile(f"{path} is there already: --force replaces it")
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    with _draft(draft, path) as out:
        try:
            yield out
            out.flush()
            _name(draft, path, replace)
        finally:
            draft.unlink(missing_ok=True)


def _draft(draft: Path, path: Path) -> TextIO:
    try:
        return create(draft)
    except OSError as error:
        error.filename = str(path)  # the name that somebody knows
        raise


def _kind(path: Path) -> int | None:
    """Its mode; None when there is nothing of that name."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return None


def _opened(path: Path, kind: int, replace: bool) -> TextIO:
    if stat.S_ISLNK(kind):
        raise UnusableFile(f"{path} is a link, and none is followed: name the file itself, or - for standard output")
    if path.lstat().st_uid not in (os.geteuid(), ROOT_UID) and not replace:
        raise UnusableFile(f"{path} is another user's, who would read all of it: --force writes there")
    return open(os.open(path, os.O_WRONLY | os.O_NOFOLLOW), "w", encoding="utf-8", newline="")


def _name(draft: Path, path: Path, replace: bool) -> None:
    if replace:
        draft.replace(path)
        return
    try:
        os.link(draft, path)
    except FileExistsError as error:
        raise UnusableFile(f"{path} was made meanwhile: --force replaces it") from error
