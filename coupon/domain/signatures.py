"""Signatures of messages: nobody without a key can add to the queue what the service would apply.

A signature stands before the value, so that people can still read it:

``ck1.5f3a9c01.6c0f0e6a1c5e7d1b9f1e2d3c4b5a6978\\n{"kind": "issue", …}``

It has the id of its key, and 16 bytes of a keyed hash over topic, key and value. So no message can be moved to another
topic or coupon. A copy in its own partition is a redelivery, which the protocol recognises. In another partition of its
topic it waits for what it builds on (decision 30).
"""

import secrets
from hashlib import blake2b
from typing import NamedTuple

VERSION = b"ck1."
ID_BYTES, MAC_BYTES = 4, 16
_ID_END = len(VERSION) + 2 * ID_BYTES
_MAC_BEGIN, _MAC_END = _ID_END + 1, _ID_END + 1 + 2 * MAC_BYTES
LENGTH = _MAC_END + 1
"""Bytes that a signature adds to a value."""


class Signed(NamedTuple):
    """A value as it was published: the id of the key that it names, its signature, and the value that was signed."""

    key_id: str
    mac: bytes
    value: bytes


class MessageKey:
    """A key that signs messages, made from a secret. Thread-safe; some 2 µs a message."""

    def __init__(self, secret: str) -> None:
        key = blake2b(secret.encode(), digest_size=32, person=b"message key").digest()
        self._stem = blake2b(key=key, digest_size=MAC_BYTES, person=b"message")
        self.id = blake2b(key=key, digest_size=ID_BYTES, person=b"id").hexdigest()
        """Differs between two keys, and reveals neither."""
        self._begin = VERSION + self.id.encode() + b"."

    def sign(self, topic: str, key: str, value: bytes) -> bytes:
        """The value with its signature before it."""
        return b"%b%b\n%b" % (self._begin, self._mac(topic, key, value), value)

    def open(self, topic: str, key: str, value: bytes) -> bytes | None:
        """The value without its signature; None when this key has not signed it. As ``parse`` and ``has_signed``, and
        twice as fast."""
        if not value.startswith(self._begin) or value[_MAC_END:LENGTH] != b"\n":
            return None
        signed = value[LENGTH:]
        mac = self._mac(topic, key, signed)
        return signed if secrets.compare_digest(mac, value[_MAC_BEGIN:_MAC_END]) else None

    def has_signed(self, topic: str, key: str, signed: Signed) -> bool:
        """Whether the signature was made with this key, for that topic and key of a message."""
        return secrets.compare_digest(self._mac(topic, key, signed.value), signed.mac)

    def _mac(self, topic: str, key: str, value: bytes) -> bytes:
        mac = self._stem.copy()
        place = f"{len(topic)} {len(key)} {topic}{key}"  # with the lengths, no two of topic, key and value run together
        mac.update(place.encode(errors="surrogatepass") + value)
        return mac.hexdigest().encode()


def parse(value: bytes) -> Signed | None:
    """The parts of a signed value; None for one without a signature."""
    if not value.startswith(VERSION) or value[_ID_END : _ID_END + 1] != b"." or value[_MAC_END:LENGTH] != b"\n":
        return None
    key_id = value[len(VERSION) : _ID_END].decode(errors="replace")
    return Signed(key_id, value[_MAC_BEGIN:_MAC_END], value[LENGTH:])
