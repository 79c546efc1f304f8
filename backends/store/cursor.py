"""The cursor of a scan, where it is the last code that the scan gave."""

from coupon.codes import InvalidCode, parse
from coupon.ports.backend import BackendRejected


def checked(cursor: str) -> str:
    """The code behind which a scan goes on; raises BackendRejected for what no scan gave."""
    try:
        if parse(cursor) == cursor:
            return cursor
    except InvalidCode as error:
        raise BackendRejected(f"{cursor!r} is not a cursor of this store: {error}") from error
    raise BackendRejected(f"{cursor!r} is not a cursor of this store: a code in its stored form is")
