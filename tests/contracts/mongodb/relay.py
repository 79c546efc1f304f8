"""A server in front of FerretDB that can what FerretDB cannot: TLS, passwords by SCRAM, and a replica set's name.

It passes messages on, and answers those of a login itself.
"""

import base64
import hashlib
import hmac
import itertools
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import bson

HEADER, BODY = struct.Struct("<iiii"), 21
OP_MSG, ROUNDS = 2013, 4096
NUMBERS = itertools.count(1_000_000)


class Relay:
    """``password`` is that of the user ann: with one, nobody else is served."""

    def __init__(self, upstream: str, password: str | None, tls: ssl.SSLContext | None, replica_set: bool) -> None:
        host, _, port = upstream.partition(":")
        self._upstream, self._password, self._tls, self._replica_set = (host, int(port)), password, tls, replica_set
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.seen: list[str] = []
        """The commands that were passed on."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, self._secured(client) as secured:
            login = None if self._password is None else Login(self._password)
            with socket.create_connection(self._upstream) as server:
                while message := _receive(secured):
                    secured.sendall(self._answer(message, login, server))

    def _secured(self, client: socket.socket) -> socket.socket:
        return client if self._tls is None else self._tls.wrap_socket(client, server_side=True)

    def _answer(self, message: bytes, login: "Login | None", server: socket.socket) -> bytes:
        command = (
            bson.decode(message[BODY : BODY + struct.unpack_from("<i", message, BODY)[0]]) if _is_msg(message) else {}
        )
        name = next(iter(command), "hello")
        if login is not None and name in ("saslStart", "saslContinue"):
            return _message(login.answer(command), message)
        if login is not None and not login.is_done and name.lower() not in ("hello", "ismaster"):
            return _message({"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "log in"}, message)
        self.seen.append(name)
        server.sendall(message)
        answer = _receive(server)
        if name.lower() in ("hello", "ismaster") and self._replica_set and _is_msg(answer):
            return _message(bson.decode(answer[BODY:]) | self._as_a_set(), message)
        return answer

    def _as_a_set(self) -> dict[str, Any]:
        me = f"127.0.0.1:{self.port}"
        return {
            "setName": "rs",
            "setVersion": 1,
            "hosts": [me, "127.0.0.1:9"],
            "primary": me,
            "me": me,
            "secondary": False,
        }


class Login:
    """The server's side of SCRAM (RFC 5802), as MongoDB has it."""

    def __init__(self, password: str) -> None:
        self._password, self.is_done = password, False

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        payload = bytes(command["payload"]).decode()
        if "saslStart" in command:
            self._hash = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}[command["mechanism"]]
            self._user_is_ann = command["$db"] == "users" and payload.startswith("n,,n=ann,")
            self._first = payload.removeprefix("n,,")
            nonce = dict(part.split("=", 1) for part in self._first.split(","))["r"] + secrets.token_hex(8)
            self._salt = secrets.token_bytes(16)
            self._challenge = f"r={nonce},s={base64.b64encode(self._salt).decode()},i={ROUNDS}"
            return {"ok": 1.0, "conversationId": 1, "done": False, "payload": self._challenge.encode()}
        if self.is_done:
            return {"ok": 1.0, "conversationId": 1, "done": True, "payload": b""}
        return self._verdict(payload)

    def _verdict(self, payload: str) -> dict[str, Any]:
        bare, _, proof = payload.rpartition(",p=")
        secret = self._password
        if self._hash == "sha1":
            secret = hashlib.md5(f"ann:mongo:{secret}".encode()).hexdigest()
        salted = hashlib.pbkdf2_hmac(self._hash, secret.encode(), self._salt, ROUNDS)
        key = self._hmac(salted, b"Client Key")
        signed = ",".join((self._first, self._challenge, bare)).encode()
        signature = self._hmac(hashlib.new(self._hash, key).digest(), signed)
        expected = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        if not self._user_is_ann or not hmac.compare_digest(expected, base64.b64decode(proof)):
            return {"ok": 0.0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "Authentication failed."}
        self.is_done = True
        server = base64.b64encode(self._hmac(self._hmac(salted, b"Server Key"), signed))
        return {"ok": 1.0, "conversationId": 1, "done": True, "payload": b"v=" + server}

    def _hmac(self, key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, self._hash).digest()


@contextmanager
def relay_to(
    upstream: str, password: str | None = None, tls: ssl.SSLContext | None = None, replica_set: bool = False
) -> Iterator[Relay]:
    relay = Relay(upstream, password, tls, replica_set)
    try:
        yield relay
    finally:
        relay.close()


def _is_msg(message: bytes) -> bool:
    return bool(HEADER.unpack_from(message)[3] == OP_MSG)


def _message(document: dict[str, Any], request: bytes) -> bytes:
    """The document as the answer to the request."""
    body = b"\0\0\0\0\0" + bson.encode(document)
    return HEADER.pack(HEADER.size + len(body), next(NUMBERS), HEADER.unpack_from(request)[1], OP_MSG) + body


def _receive(connection: socket.socket) -> bytes:
    """A message; none where the connection ends."""
    head = _exactly(connection, HEADER.size)
    return head and head + _exactly(connection, HEADER.unpack(head)[0] - HEADER.size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data
