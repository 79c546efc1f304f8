"""Coupon codes, operation ids and signatures: all that is derived from the secret.

A code is a keyed hash of (operation, index), so a creation that is retried or redelivered makes the same codes. Nobody
without the secret can guess one: there are 36^19 ≈ 3.7e29.
"""

import re
import secrets
from collections.abc import Iterator
from hashlib import blake2b
from typing import Literal, get_args

from coupon.domain.errors import InvalidCode
from coupon.domain.model import KEY_LENGTH

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_LETTERS = frozenset(ALPHABET + ALPHABET.lower())
LENGTH = 19
OPERATION_LENGTH = 20
SEAL_LENGTH = 8
_BETWEEN = re.compile(r"[\s\-\u00ad\u200b-\u2015\u202a-\u202e\u2060-\u206f\u2212\ufe58\ufe63\ufeff\uff0d]")
"""Blanks, dashes and characters without a width, which people and programs write into codes."""
_TRIPLES = [a + b + c for a in ALPHABET for b in ALPHABET for c in ALPHABET]
Purpose = Literal["sign", "cursor"]
"""What a signature is for: the address of an operation, or the cursor of a list."""


def parse(text: str) -> str:
    """The code in its stored form (19 letters, no dashes) from any way of writing it; raises InvalidCode."""
    code = text.strip().replace("-", "")
    if not (len(code) == LENGTH and code.isascii() and code.isalnum()):  # most are, and the rest takes longer
        code = _BETWEEN.sub("", text)
        _ensure_letters(code)
    return code.upper()


def _ensure_letters(code: str) -> None:
    if wrong := next((letter for letter in code if letter not in _LETTERS), None):
        raise InvalidCode(f"a code is made of A–Z and 0–9, this one holds {wrong!r}")
    if len(code) != LENGTH:
        raise InvalidCode(f"a code has {LENGTH} letters and digits, this one has {len(code)}")


def is_code(text: str) -> bool:
    """Whether it is a code in its stored form."""
    return len(text) == LENGTH and text.isascii() and text.isalnum() and text == text.upper()


def show(code: str) -> str:
    """The code as people read it: 5-6-8 with dashes."""
    return f"{code[:5]}-{code[5:11]}-{code[11:]}"


class CodeDeriver:
    """Derives codes and operation ids from the secret. Thread-safe; ~3 µs a code."""

    def __init__(self, secret: str) -> None:
        key = blake2b(secret.encode(), digest_size=32).digest()
        self._codes = blake2b(key=key, digest_size=16, person=b"code")
        self._operations = blake2b(key=key, digest_size=16, person=b"operation")
        self._seals = blake2b(key=key, digest_size=SEAL_LENGTH, person=b"cache")
        self._signatures = {
            purpose: blake2b(key=key, digest_size=8, person=purpose.encode()) for purpose in get_args(Purpose)
        }
        self.fingerprint = self.sign("fingerprint")
        """Differs between two secrets, and reveals neither."""

    def codes(self, operation: str, first: int, count: int) -> Iterator[str]:
        """The operation's codes from index ``first`` on."""
        stem = _hashed(self._codes, operation)
        for index in range(first, first + count):
            yield _letters(_hashed(stem, f"/{index}").digest(), LENGTH)

    def key(self, caller: str, idempotency_key: str) -> str:
        """A hash of the caller and the key: ``OPERATION_LENGTH`` letters and digits."""
        return _letters(_hashed(self._operations, f"{caller}\0{idempotency_key}").digest(), OPERATION_LENGTH).lower()

    def operation(self, caller: str, idempotency_key: str | None, request: str = "") -> str:
        """The id of an operation: a hash of caller, key and request; random without a key. Its first ``KEY_LENGTH``
        letters follow from caller and key alone."""
        if idempotency_key is None:
            return _letters(secrets.token_bytes(16), OPERATION_LENGTH).lower()
        of_all = _hashed(self._operations, f"{caller}\0{idempotency_key}\0{request}").digest()
        return self.key(caller, idempotency_key)[:KEY_LENGTH] + _letters(of_all, OPERATION_LENGTH - KEY_LENGTH).lower()

    def seal(self, key: str, value: bytes) -> bytes:
        """A signature of a cache entry, 8 bytes: an entry that was written without the secret, or for another key, is
        recognised."""
        sealed = self._seals.copy()
        sealed.update(key.encode() + b"\0" + value)
        return sealed.digest()

    def sign(self, text: str, purpose: Purpose = "sign") -> str:
        """A signature of 10 letters and digits, for addresses and cursors that only this service may make. A signature
        for one purpose is invalid for another."""
        return _letters(_hashed(self._signatures[purpose], text).digest(), 10).lower()


def _hashed(stem: blake2b, text: str) -> blake2b:
    """A copy of the keyed hash ``stem``, updated with the text."""
    hashed = stem.copy()
    hashed.update(text.encode())
    return hashed


def _letters(digest: bytes, length: int) -> str:
    """The first ``length`` base-36 digits of the digest, three at a time."""
    number, parts = int.from_bytes(digest, "big"), []
    for _ in range(-(-length // 3)):
        number, triple = divmod(number, 46_656)
        parts.append(_TRIPLES[triple])
    return "".join(parts)[:length]
