"""The cursor of a scan, where it is the last code that the scan came to."""

from coupon.domain.codes import is_code
from coupon.domain.errors import BackendRejected

NO_CODE = "~"
"""Before the bytes, in hexadecimal, of what is stored as a code and is none."""


def given(code: bytes) -> str:
    """The cursor behind what is stored under that code."""
    text = code.decode(errors="replace")
    return text if is_code(text) else NO_CODE + code.hex()


def checked(cursor: str) -> bytes:
    """The code behind which a scan goes on; raises BackendRejected for what no scan gave."""
    if is_code(cursor):
        return cursor.encode()
    try:
        if cursor.startswith(NO_CODE) and cursor != NO_CODE:
            return bytes.fromhex(cursor.removeprefix(NO_CODE))
    except ValueError:
        pass
    raise BackendRejected(f"{cursor!r} is not a cursor of this store: it is a code in its stored form")


def given_key(key: bytes) -> str:
    """The cursor behind a record's key: any text may be one."""
    return NO_CODE + key.hex()


def checked_key(cursor: str) -> bytes:
    """The key behind which a scan of records goes on; raises BackendRejected for what no scan gave."""
    try:
        key = bytes.fromhex(cursor.removeprefix(NO_CODE))
    except ValueError:
        key = b""
    if not key or given_key(key) != cursor:
        raise BackendRejected(f"{cursor!r:.100} is not a cursor of this store")
    return key
