"""Callers of a running service who cost the machine little: ``http.client`` on a connection of its own."""

import http.client
import json
import threading
import time
from typing import Any, Self
from urllib.parse import urlsplit

CALLS_A_SECOND = 20
TRY_AGAIN_S = 0.05


class Client:
    """One connection, which stays open."""

    def __init__(self, url: str, key: str = "") -> None:
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)

    def send(self, method: str, path: str, body: object) -> Any:
        """What is answered to a command; anything but a 202 is an error."""
        status, content = self._ask(method, path, body)
        assert status == 202, (status, content)
        return json.loads(content)

    def send_until_taken(self, method: str, path: str, body: object) -> Any:
        """As ``send``, but sent again as long as the service cannot take it."""
        while (answer := self._ask(method, path, body))[0] == 503:
            time.sleep(TRY_AGAIN_S)
        assert answer[0] == 202, answer
        return json.loads(answer[1])

    def _ask(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        self._connection.request(method, path, json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        self._connection.close()


class SteadyCaller:
    """Sends the same command twenty times a second, and tells how long each took. A context."""

    def __init__(self, url: str, method: str, path: str, body: object) -> None:
        self._client, self._command = Client(url), (method, path, body)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self.took_ms: list[float] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _call(self) -> None:
        while not self._stop.wait(1 / CALLS_A_SECOND):
            began = time.perf_counter()
            self._client.send(*self._command)
            self.took_ms.append((time.perf_counter() - began) * 1e3)
