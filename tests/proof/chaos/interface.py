"""The HTTP interface as a client of a run uses it.

Requests go to any of the masters. A response that the interface does not have is reported.
"""

import json
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import urllib3
from urllib3.exceptions import HTTPError

from coupon.web.problems import MEDIA_TYPE, TITLES
from tests.proof.chaos.records import Records, Unexpected, clock
from tests.proof.record import CALLER

CONNECT_S, ANSWER_S = 3.0, 10.0
"""The service answers within a few seconds, whatever is away; a stopped process never."""
PATIENT_S = 21.0
"""Half of those who get no answer in time go on waiting, and tell how late it came; the others ask again meanwhile."""
NEVER = {"INTERNAL_ERROR", "OUTCOME_EXPIRED", "BAD_REQUEST", "INVALID_JSON", "INVALID_FIELD"}
"""Problems that no request of a run asks for: none is malformed, and histories stay within what a coupon remembers."""


class Answer(NamedTuple):
    """``status`` 0: none."""

    sent: float
    ended: float
    status: int
    body: dict[str, Any]
    address: str
    """The last part of the ``Location``."""

    @property
    def took_s(self) -> float:
        return self.ended - self.sent

    @property
    def code(self) -> str:
        """Of the problem, or of a rejection."""
        return str(self.body.get("code", ""))


class Interface:
    """Asks the masters, at random, on kept connections. Thread-safe."""

    def __init__(self, ports: Sequence[int], name: str, records: Records, connections: int = 1) -> None:
        self._pools = [
            urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=connections, retries=False) for port in ports
        ]
        self._name, self._records = name, records

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        wait_s: int = 0,
    ) -> Answer:
        number = random.randrange(len(self._pools))
        pool, master = self._pools[number], f"web{number}"
        asked = {"X-Caller": CALLER, **({"Prefer": f"wait={wait_s}"} if wait_s else {}), **(headers or {})}
        limit_s = ANSWER_S + wait_s
        patience = urllib3.Timeout(connect=CONNECT_S, read=random.choice((limit_s, PATIENT_S)))
        sent = clock()
        try:
            response = pool.request(method, path, json=body, headers=asked, timeout=patience)
            answer = _parsed(response, sent, clock())
        except HTTPError:
            response, answer = None, Answer(sent, clock(), 0, {}, "")
        if answer.took_s >= limit_s:
            what = f"{method} {path}: {answer.status or 'no answer'} after {answer.took_s:.1f} s"
            self._records.surprise(Unexpected(self._name, sent, answer.ended, what, master, True, limit_s))
        if response is not None and (fault := _fault_of(response, answer)):
            what = f"{method} {path}: {fault}: {response.status} {response.data[:300]!r}"
            self._records.surprise(Unexpected(self._name, sent, answer.ended, what, master))
        return answer

    def close(self) -> None:
        for pool in self._pools:
            pool.close()


def _parsed(response: urllib3.BaseHTTPResponse, sent: float, ended: float) -> Answer:
    try:
        body = json.loads(response.data)
    except ValueError:
        body = {}
    address = response.headers.get("Location", "").rpartition("/")[2]
    return Answer(sent, ended, response.status, body if isinstance(body, dict) else {}, address)


def _fault_of(response: urllib3.BaseHTTPResponse, answer: Answer) -> str | None:
    """Why this is no answer that the interface promises; None when it is one."""
    if not answer.body:
        return "not a JSON object"
    if answer.status in (200, 202):
        return "accepted without a Location" if answer.status == 202 and not answer.address else None
    code = answer.code
    if response.headers.get("Content-Type") != MEDIA_TYPE or code not in TITLES:
        return "not a problem with a known code"
    if TITLES[code][0] != answer.status:
        return f"{code} with another status than {TITLES[code][0]}"
    if code in NEVER:
        return f"{code}, which nothing asked for"
    if answer.status == 503 and not response.headers.get("Retry-After"):
        return "503 without Retry-After"
    return None
