"""The keyring: which keys sign, which are only known, and a file that changes."""

import os

import pytest

from coupon.domain.errors import BackendUnavailable, ConfigurationError
from coupon.domain.signatures import MessageKey
from coupon.runtime.keyring import ROOT, Keyring, keys_of, parse
from coupon.runtime.settings import load

SECRET, SECOND, THIRD = "the first secret of all", "the second secret of all".replace(" ", "-"), "x" * 20


def key_id(secret):
    return MessageKey(secret).id


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keyring"


class Now:
    ms = 0

    def __call__(self):
        return self.ms


def test_without_a_file_the_key_of_the_secret_signs():
    keyring = Keyring(SECRET, "")
    assert keyring.signing.id == key_id(SECRET)
    assert keyring.find(key_id(SECRET)) is keyring.signing
    assert keyring.find(key_id(SECOND)) is None


@pytest.mark.parametrize(
    ("text", "signing"),
    [
        ("", SECRET),
        ("# a remark\n\n", SECRET),
        (f"{SECOND}\n", SECOND),
        (f"{SECOND} next\n", SECRET),
        (f"{SECOND}\n{THIRD} next\n", SECOND),
        (f"{ROOT}\n{SECOND}\n{THIRD}\n", THIRD),
        (f"{SECOND}\n{ROOT}\n", SECRET),
    ],
)
def test_the_last_key_that_is_not_next_signs(text, signing):
    keys = keys_of(SECRET, parse(text))
    assert keys.signing.id == key_id(signing)
    assert keys.root == key_id(SECRET)
    assert set(keys.by_id) == {key_id(SECRET), *(key_id(each) for each in (SECOND, THIRD) if each in text)}


@pytest.mark.parametrize("text", ["short", f"{SECOND} later", f"{SECOND} next now", f"{ROOT} next"])
def test_a_line_that_is_none_is_named_and_not_shown(text):
    with pytest.raises(ConfigurationError, match=r"line 1 is not a secret|no key is left that signs") as raised:
        keys_of(SECRET, parse(text))
    assert SECOND not in str(raised.value)


def test_a_change_is_seen_after_a_second_and_at_once_when_a_key_is_unknown(file):
    now = Now()
    file.write_text("")
    keyring = Keyring(SECRET, str(file), now)
    assert keyring.signing.id == key_id(SECRET)
    file.write_text(f"{SECOND}\n")
    assert keyring.signing.id == key_id(SECRET)
    now.ms = 1_000
    assert keyring.signing.id == key_id(SECOND)
    draft = file.with_name("draft")
    draft.write_text(f"{SECOND}\n{THIRD} next\n")
    os.replace(draft, file)
    assert keyring.find(key_id(THIRD)) is not None


@pytest.mark.logs_error("keyring not read")
def test_a_file_that_is_lost_or_spoilt_later_changes_nothing(file):
    now = Now()
    file.write_text(f"{SECOND}\n")
    keyring = Keyring(SECRET, str(file), now)
    assert keyring.signing.id == key_id(SECOND)
    for spoil in (lambda: file.write_text("?"), lambda: file.write_bytes(b"\xff"), file.unlink):
        spoil()
        now.ms += 1_000
        assert keyring.signing.id == key_id(SECOND)


def test_a_file_that_was_never_there_signs_nothing(file):
    with pytest.raises(BackendUnavailable, match="COUPON_KEYRING_FILE"):
        Keyring(SECRET, str(file)).signing  # noqa: B018


def test_a_keyring_that_cannot_be_read_ends_a_start(file):
    environ = {"COUPON_CONF": "conf/test.env", "COUPON_KEYRING_FILE": str(file)}
    with pytest.raises(ConfigurationError, match=r"COUPON_KEYRING_FILE=.*No such file"):
        load(environ)
    load(environ, if_missing="ignore")
    file.write_text("short")
    with pytest.raises(ConfigurationError, match=r"COUPON_KEYRING_FILE=.*line 1 is not a secret"):
        load(environ)
