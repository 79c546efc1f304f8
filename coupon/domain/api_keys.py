"""API keys: random tokens, each with a name and a role. The store has their hashes only. Pure.

A token has 256 random bits, so a fast hash is enough: nobody can try all of them.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

import msgspec

from coupon.domain.errors import InvalidApiKey, Malformed

FORMAT = 1
PREFIX = "ck_"
TOKEN_BYTES = 32
KEYS_MAX, TOKENS_MAX = 500, 4
"""The most keys of a service, and tokens of a key that are valid at a time."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Role(StrEnum):
    """What a caller may do. ``docs/operations.md`` has the table of addresses and roles."""

    APP = "app"
    OPERATOR = "operator"
    VIEWER = "viewer"
    ADMIN = "admin"
    USER = "user"
    """Of a token that a user logged in with. No API key has it."""


ROLES_OF_KEYS = (Role.APP, Role.OPERATOR, Role.VIEWER, Role.ADMIN)
OPERATORS = frozenset({Role.OPERATOR, Role.ADMIN})
APPS = OPERATORS | {Role.APP}
LISTERS = OPERATORS | {Role.VIEWER}
READERS = APPS | LISTERS
USERS = APPS | {Role.USER}
EVERYBODY: frozenset[Role] = frozenset()
"""Without a key, too."""


class Identity(NamedTuple):
    """Who calls: the name that coupons' histories show, and the role. ``user_id`` is of a user that calls by itself."""

    name: str
    role: Role
    user_id: str | None = None
    scope: str = ""
    """Of an ``Idempotency-Key``, beside the name: a key that was made again under the same name is another caller."""


class TokenHash(msgspec.Struct, frozen=True):
    """A token is valid ``until`` that instant in ms; None: as long as its key."""

    sha256: str
    until: int | None = None


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key by its role. Instants are in ms. The last of the tokens is the newest."""

    role: Role
    created_at: int
    expires_at: int | None = None
    tokens: tuple[TokenHash, ...]

    def end_of(self, token: TokenHash) -> float:
        """The instant in ms at which the token is valid no longer."""
        return min(end for end in (token.until, self.expires_at, float("inf")) if end is not None)


class ApiKeys:
    """All keys by their names. Immutable: each change returns others."""

    def __init__(self, keys: Mapping[str, ApiKey], *, is_recorded: bool = True) -> None:
        """``is_recorded`` is False where the store has no record of keys."""
        self.keys, self.is_recorded = dict(keys), is_recorded
        self._by_hash = {
            token.sha256: (Identity(name, key.role, scope=str(key.created_at)), key.end_of(token))
            for name, key in keys.items()
            for token in key.tokens
        }

    def __bool__(self) -> bool:
        return bool(self.keys)

    def find(self, token: str, at: int) -> Identity | None:
        """The key's identity; None for a token that is unknown, or no longer valid ``at`` that instant in ms."""
        identity, end = self._by_hash.get(_hash(token), (None, 0.0))
        return identity if at < end else None

    def with_new(self, name: str, role: Role, at: int, expires_at: int | None) -> "tuple[ApiKeys, str]":
        """These keys and one more, and the key's token. Raises InvalidApiKey."""
        if not _NAME.fullmatch(name) or name.startswith("anonymous"):
            raise InvalidApiKey(
                f"{name!r} is no name of a key: 1 to 64 letters, digits and . _ @ -, beginning with a"
                " letter or digit, and not with anonymous"
            )
        if name in self.keys:
            raise InvalidApiKey(f"there is a key {name!r} already: coupon keys rotate gives it a new token")
        if len(self.keys) >= KEYS_MAX:
            raise InvalidApiKey(f"there are {KEYS_MAX} keys already, which are the most")
        token = new_token()
        key = ApiKey(role=role, created_at=at, expires_at=expires_at, tokens=(TokenHash(_hash(token)),))
        return ApiKeys(self.keys | {name: key}), token

    def without(self, name: str, *, last: bool) -> "ApiKeys":
        """These keys without that one; raises InvalidApiKey. Without the ``last`` one the service asks for none, so
        that has to be meant."""
        self._key(name)
        if len(self.keys) == 1 and not last:
            raise InvalidApiKey(
                f"{name!r} is the last key, and without one whoever is on this machine may do all:"
                " create another key first, or give --last"
            )
        return ApiKeys({other: key for other, key in self.keys.items() if other != name})

    def with_another_token(self, name: str, at: int, until: int) -> "tuple[ApiKeys, str]":
        """These keys with a new token for that one, and the token. Its other tokens stay valid ``until`` that instant.
        Instants are in ms. Raises InvalidApiKey."""
        key, token = self._key(name), new_token()
        if key.expires_at is not None and key.expires_at <= at:
            raise InvalidApiKey(f"the key {name!r} has expired: revoke it, and create another one")
        others = [TokenHash(each.sha256, min(each.until or until, until)) for each in key.tokens]
        others = [each for each in others if at < key.end_of(each)]
        if len(others) >= TOKENS_MAX:
            raise InvalidApiKey(f"{TOKENS_MAX} tokens of {name!r} are valid already: give --overlap 0, or wait")
        changed = msgspec.structs.replace(key, tokens=(*others, TokenHash(_hash(token))))
        return ApiKeys(self.keys | {name: changed}), token

    def encoded(self) -> str:
        return msgspec.json.encode({"format": FORMAT, "keys": self.keys}).decode()

    def _key(self, name: str) -> ApiKey:
        if name not in self.keys:
            raise InvalidApiKey(f"there is no key {name!r}")
        return self.keys[name]

    def __iter__(self) -> Iterator[tuple[str, ApiKey]]:
        return iter(sorted(self.keys.items()))


class _Encoded(msgspec.Struct):
    format: int
    keys: dict[str, ApiKey]


def decode_api_keys(text: str) -> ApiKeys:
    """Raises Malformed."""
    try:
        found = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise Malformed(f"no record of API keys: {error}") from error
    if found.format != FORMAT or any(key.role not in ROLES_OF_KEYS for key in found.keys.values()):
        raise Malformed("a record of API keys of another version")
    return ApiKeys(found.keys)


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def _hash(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


_DECODER = msgspec.json.Decoder(_Encoded)
