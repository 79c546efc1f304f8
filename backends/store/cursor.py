"""The cursor of a scan, for stores where it is the last code of the page before."""

from coupon.domain.codes import is_code
from coupon.domain.errors import BackendRejected

NO_CODE = "~"
"""The first character of a cursor whose row has no valid code. The bytes of the code follow, in hexadecimal."""


def cursor_of(code: bytes) -> str:
    """The cursor behind the row with that code."""
    text = code.decode(errors="replace")
    return text if is_code(text) else NO_CODE + code.hex()


def checked(cursor: str) -> bytes:
    """The code behind which a scan goes on; raises BackendRejected for a cursor that no scan returned."""
    if is_code(cursor):
        return cursor.encode()
    try:
        if cursor.startswith(NO_CODE) and cursor != NO_CODE:
            return bytes.fromhex(cursor.removeprefix(NO_CODE))
    except ValueError:
        pass
    raise BackendRejected(f"{cursor!r} is not a cursor of this store: it is a code in its stored form")


def cursor_of_key(key: bytes) -> str:
    """The cursor behind the record with that key, which may be any text."""
    return NO_CODE + key.hex()


def checked_key(cursor: str) -> bytes:
    """The key behind which a scan of records goes on; raises BackendRejected for a cursor that no scan returned."""
    try:
        key = bytes.fromhex(cursor.removeprefix(NO_CODE))
    except ValueError:
        key = b""
    if not key or cursor_of_key(key) != cursor:
        raise BackendRejected(f"{cursor!r:.100} is not a cursor of this store")
    return key
