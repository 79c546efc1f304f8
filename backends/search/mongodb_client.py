"""The connection to MongoDB: one client a process, bounded in time, and the driver's errors as the two of a backend."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import BulkWriteError, InvalidOperation, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from coupon.domain.errors import BackendRejected, BackendUnavailable

Row = dict[str, Any]
DUPLICATE_KEY = 11000
PING_S = 1.0
READS_ANYTHING = CodecOptions[Row](
    unicode_decode_error_handler="replace", datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
"""What others wrote must not spoil the page that it is on."""
NEVER = frozenset({2, 9, 14, 22, 121, 10334})
"""Codes of a document that MongoDB refuses as it is: BadValue, FailedToParse, TypeMismatch, InvalidBSON,
DocumentValidationFailure, BSONObjectTooLarge. A retry may help with all others, also with wrong credentials: an
operator repairs them while documents wait."""


class MongoConnection:
    """Opens a client of its own in each process: the driver's threads and locks do not survive a fork.

    A write is acknowledged when a majority has it in its journal. A read sees what a majority has. The timeout covers a
    whole request: choosing a server, a place in the pool, connecting, sending, and receiving the response.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        database: str,
        timeout_s: float,
        tls: bool,
        credentials: tuple[str, str] | None,
        auth_source: str,
        ca: str = "",
    ) -> None:
        self._database, self._ping_s = database, min(PING_S, timeout_s)
        timeout_ms = timeout_s * 1000
        self._options: dict[str, Any] = {
            "host": [f"{host}:{port}" for host, port in addresses],
            "appname": "coupon",
            "tls": tls,
            "timeoutMS": timeout_ms,
            "serverSelectionTimeoutMS": timeout_ms,
            "connectTimeoutMS": timeout_ms,  # of the threads that watch the servers, too
            "w": "majority",
            "journal": True,
            "connect": False,
        }
        if ca:
            self._options["tlsCAFile"] = ca
        if credentials is not None:
            user, password = credentials
            self._options |= {"username": user, "password": password, "authSource": auth_source}
        self._clients: dict[int, MongoClient[Row]] = {}
        """By process. A child keeps its parent's, and never uses it."""
        self._closed = False

    @property
    def database(self) -> Database[Row]:
        if self._closed:
            raise BackendUnavailable("the search was closed")
        process = os.getpid()
        client = self._clients.get(process) or self._clients.setdefault(process, MongoClient(**self._options))
        return client.get_database(self._database, READS_ANYTHING, read_concern=ReadConcern("majority"))

    @contextmanager
    def soon(self) -> Iterator[None]:
        """All requests of the block together take no longer than a ping may."""
        with pymongo.timeout(self._ping_s):
            yield

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises BackendUnavailable or BackendRejected in place of the driver's errors."""
        try:
            yield
        except (BSONError, OverflowError, UnicodeEncodeError) as error:
            raise BackendRejected(f"MongoDB cannot hold it: {error}") from error
        except InvalidOperation as error:  # closed meanwhile
            raise BackendUnavailable(f"the search was closed: {error}") from error
        except BulkWriteError as error:
            raise _of_many(error) from error
        except OperationFailure as error:
            kind = BackendRejected if error.code in NEVER else BackendUnavailable
            raise kind(f"MongoDB answers {error.code}: {error}") from error
        except PyMongoError as error:
            raise BackendUnavailable(f"MongoDB does not answer: {error}") from error

    def close(self) -> None:
        self._closed = True
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()


def refusals(error: BulkWriteError) -> list[Row]:
    """The errors of the documents that were not written, but for those that are there already."""
    return [each for each in error.details.get("writeErrors", []) if each["code"] != DUPLICATE_KEY]


def is_unconfirmed(error: BulkWriteError) -> bool:
    """Whether a majority may not have all that was written."""
    return bool(error.details.get("writeConcernErrors"))


def _of_many(error: BulkWriteError) -> BackendUnavailable | BackendRejected:
    """BackendUnavailable when a retry may help one of the documents."""
    codes = [each["code"] for each in refusals(error)]
    sentence = f"MongoDB did not write {len(codes)} of the documents: {error.details}"[:500]
    if codes and not is_unconfirmed(error) and all(code in NEVER for code in codes):
        return BackendRejected(sentence)
    return BackendUnavailable(sentence)
