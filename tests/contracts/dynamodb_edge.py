"""A server between the driver and DynamoDB: it counts, and does what DynamoDB Local never does."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Request = dict[str, Any]


class Reply(NamedTuple):
    status: int
    body: dict[str, Any]


Forward = Callable[[Request], Reply]
Act = Callable[[Request, Forward], Reply | None]
"""What is done with a request; None hangs up without a word."""


class Edge:
    """``acts`` are for the next requests, one each; then ``always``; by default, all is passed on."""

    def __init__(self, dynamodb: str) -> None:
        self._dynamodb = dynamodb
        self._lock = threading.Lock()
        self._present = 0
        self.acts: list[Act] = []
        self.always: Act = pass_on
        self.requests: list[str] = []
        self.most_at_once = 0
        self.address = ""

    def handle(self, operation: str, headers: dict[str, str], request: Request) -> Reply | None:
        with self._lock:
            self.requests.append(operation)
            self._present += 1
            self.most_at_once = max(self.most_at_once, self._present)
            act = self.acts.pop(0) if self.acts else self.always
        try:
            return act(request, lambda request: self._forward(headers, request))
        finally:
            with self._lock:
                self._present -= 1

    def _forward(self, headers: dict[str, str], request: Request) -> Reply:
        connection = http.client.HTTPConnection(self._dynamodb, timeout=20)
        connection.request("POST", "/", json.dumps(request), headers)
        response = connection.getresponse()
        reply = Reply(response.status, json.loads(response.read()))
        connection.close()
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # with Python's 5, the kernel drops those who connect at once


@contextmanager
def edge_of(dynamodb: str) -> Iterator[Edge]:
    edge = Edge(dynamodb)
    server = _Server(("127.0.0.1", 0), _handler(edge))
    edge.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield edge
    server.shutdown()
    server.server_close()
    thread.join()


def pass_on(request: Request, forward: Forward) -> Reply:
    return forward(request)


def slowly(request: Request, forward: Forward) -> Reply:
    time.sleep(0.05)
    return forward(request)


def hang_up(request: Request, forward: Forward) -> None:
    return None


def lose_the_reply(request: Request, forward: Forward) -> None:
    assert forward(request).status == 200


def refuse(code: str, status: int = 400) -> Act:
    return lambda request, forward: Reply(status, {"__type": f"com.amazonaws#{code}", "message": "says the edge"})


def cancel(*reasons: str) -> Act:
    """Cancels the transaction for these reasons, of its first items."""

    def act(request: Request, forward: Forward) -> Reply:
        every = [*reasons, *["None"] * (len(request["TransactItems"]) - len(reasons))]
        body = {
            "__type": "com.amazonaws#TransactionCanceledException",
            "message": "says the edge",
            "CancellationReasons": [{"Code": reason} for reason in every],
        }
        return Reply(400, body)

    return act


def leave_unprocessed(number: int) -> Act:
    """Reads all but so many of the keys."""

    def act(request: Request, forward: Forward) -> Reply:
        [(table, asked)] = request["RequestItems"].items()
        left = {**asked, "Keys": asked["Keys"][:number]}
        read = {**asked, "Keys": asked["Keys"][number:]}
        found = forward({"RequestItems": {table: read}}).body["Responses"] if read["Keys"] else {}
        return Reply(200, {"Responses": found, "UnprocessedKeys": {table: left}})

    return act


def throttled(code: str) -> Act:
    """Leaves this key unread, whenever it is asked for."""

    def act(request: Request, forward: Forward) -> Reply:
        [asked] = request["RequestItems"].values()
        places = [key["couponCode"]["S"] for key in asked["Keys"]]
        if code not in places:
            return pass_on(request, forward)
        asked["Keys"].insert(0, asked["Keys"].pop(places.index(code)))
        reply = leave_unprocessed(1)(request, forward)
        assert reply is not None
        return reply

    return act


def _handler(edge: Edge) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "content-length"}
            reply = edge.handle(self.headers["X-Amz-Target"].partition(".")[2], headers, request)
            if reply is None:
                self.close_connection = True
                return
            body = json.dumps(reply.body).encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
