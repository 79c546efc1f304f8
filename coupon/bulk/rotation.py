"""Rotating the keys that sign messages: a new key is known everywhere before it signs, and retired after it did."""

import os
import secrets
from pathlib import Path

from coupon.bulk.upgraded_queue import retire
from coupon.domain.errors import ConfigurationError
from coupon.domain.signatures import MessageKey
from coupon.ports.store import Store
from coupon.runtime.keyring import NEXT, ROOT, Entry, keys_of, read_file
from coupon.runtime.older_messages import change, with_key
from coupon.runtime.signed_queue import SignedQueue

HEADER = """\
# Secrets of Coupon that sign messages, for COUPON_KEYRING_FILE. `coupon rotate-secret` writes this file.
# It is the same on all machines, and is kept with COUPON_SECRET for as long as the queue: see docs/operations.md.
"""


class Rotation:
    """The keyring file of this machine, and the secret of the configuration."""

    def __init__(self, path: str, secret: str) -> None:
        """Raises ConfigurationError."""
        if not path:
            raise ConfigurationError("COUPON_KEYRING_FILE is not set: it names the file that gets the new key")
        self._path, self._secret = Path(path), secret
        entries = read_file(self._path)
        self._entries = entries if any(entry.secret == ROOT for entry in entries) else [Entry(ROOT), *entries]

    @property
    def has_next(self) -> bool:
        """Whether a key waits to sign."""
        return any(entry.word == NEXT for entry in self._entries)

    def add_next(self) -> str:
        """Add a new key, which signs nothing yet. Returns its id."""
        self._entries.append(Entry(secrets.token_urlsafe(32), NEXT))
        self._write()
        return self._id(self._entries[-1])

    def use_next(self, store: Store) -> str:
        """Let the key that waits sign; the store knows it before. Returns its id. Raises BackendUnavailable."""
        waiting = [entry for entry in self._entries if entry.word == NEXT]
        self._entries = [entry for entry in self._entries if entry.word != NEXT]
        self._entries += [entry._replace(word="") for entry in waiting]
        key_id = self._id(self._entries[-1])
        change(store, lambda older: with_key(older, key_id))
        self._write()
        return key_id

    def retire_others(self, queue: SignedQueue, store: Store) -> list[str]:
        """Retire all keys but the one that signs, and the one that waits: the store knows it, and the file stays as it
        is. Returns their ids. Raises BackendUnavailable."""
        signing = keys_of(self._secret, self._entries).signing.id
        ids = [self._id(entry) for entry in self._entries if not entry.word and self._id(entry) != signing]
        for key_id in ids:
            retire(queue, store, key_id)
        return ids

    def _id(self, entry: Entry) -> str:
        return MessageKey(self._secret if entry.secret == ROOT else entry.secret).id

    def _write(self) -> None:
        keys_of(self._secret, self._entries)
        _replace(self._path, "".join(f"{' '.join(filter(None, entry))}\n" for entry in self._entries))


def create(path: str) -> None:
    """Make a file without a key."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _replace(Path(path), f"{ROOT}\n")


def _replace(path: Path, lines: str) -> None:
    """Write the file as a whole: processes read it at any moment."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(HEADER + lines)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
