import pytest

from coupon.domain.errors import ConfigurationError
from coupon.ports.url import Url
from coupon.runtime import settings

GIVEN = {
    "COUPON_CACHE_URL": "memory://",
    "COUPON_QUEUE_URL": "memory://",
    "COUPON_STORE_URL": "dynamodb://key:pass%2Fword@10.0.0.1:8000?region=local",
    "COUPON_SEARCH_URL": "memory://",
    "COUPON_SECRET": "sixteen characters or more",
}


@pytest.fixture
def environ(tmp_path):
    conf = tmp_path / "empty.env"
    conf.touch()
    return {**GIVEN, "COUPON_CONF": str(conf), "PATH": "/bin"}


def test_the_address_of_signing_keys_is_shown_without_its_secrets(environ):
    shown = settings.load(environ | {"COUPON_JWT_JWKS": "https://ann:S3cret@login.example/jwks?token=T0p"}).masked()
    assert shown["COUPON_JWT_JWKS"] == "https://***@login.example/jwks?***"


def test_what_is_not_given_has_its_default(environ):
    loaded = settings.load(environ)
    assert loaded.timezone.key == "UTC"
    assert loaded.topics == "single"
    assert loaded.max_amount == 1_000_000
    assert loaded.max_body_bytes == 65_536


def test_the_environment_wins_over_the_file(environ, tmp_path):
    (tmp_path / "empty.env").write_text("COUPON_TIMEZONE=Asia/Seoul\nCOUPON_MAX_AMOUNT=5\n")
    loaded = settings.load({**environ, "COUPON_MAX_AMOUNT": "7"})
    assert loaded.timezone.key == "Asia/Seoul"
    assert loaded.max_amount == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COUPON_TIMEZON", "UTC"),
        ("COUPON_TIMEZONE", "Mars/Olympus"),
        ("COUPON_TOPICS", "many"),
        ("COUPON_MAX_AMOUNT", "a million"),
        ("COUPON_MAX_AMOUNT", "0"),
        ("COUPON_LOG_LEVEL", "loud"),
        ("COUPON_CALLER_HEADER", "X Caller"),
        ("COUPON_CALLER_HEADER", "X-Caller:"),
        ("COUPON_CALLER_HEADER", "X-Caller\n"),
        ("COUPON_CALLER_HEADER", "X_Caller"),
        ("COUPON_CALLER_HEADER", "Content-type"),
        ("COUPON_CALLER_HEADER", "HOST"),
        ("COUPON_SECRET_FILE", "data/secret"),
    ],
)
def test_an_unknown_or_impossible_setting_is_named(environ, name, value):
    with pytest.raises(ConfigurationError, match="COUPON_SECRET" if "SECRET" in name else name):
        settings.load({**environ, name: value})


def test_a_file_that_is_no_text_is_named(environ, tmp_path):
    (tmp_path / "empty.env").write_bytes(b"\x7fELF\xd0\xff")
    with pytest.raises(ConfigurationError, match=r"COUPON_CONF='.*empty.env' cannot be read: it is no text"):
        settings.load(environ)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"COUPON_BATCH_MAX": "0"}, "COUPON_BATCH_MAX='0' is not a whole number from 1 to 10,000"),
        ({"COUPON_TOPICS": "many"}, "COUPON_TOPICS='many' is not one of single, per-command"),
        ({"COUPON_TIMEZON": "UTC"}, "COUPON_TIMEZON='UTC' is not a setting: is COUPON_TIMEZONE meant?"),
        ({"COUPON_STORE_URL": ""}, "COUPON_STORE_URL is missing: it is a URL, such as sqlite:///data/store.db"),
        ({"COUPON_SECRET": ""}, "COUPON_SECRET and COUPON_SECRET_FILE are not set: set one of them"),
    ],
)
def test_one_sentence_names_the_setting_its_value_and_what_is_accepted(environ, changed, sentence):
    with pytest.raises(ConfigurationError) as refused:
        settings.load(environ | changed)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COUPON_STORE_URL", "sqlite:///data/queue.db?timeout_s=1"),
        ("COUPON_STORE_URL", "sqlite:///data/../data/queue.db"),
        ("COUPON_HEARTBEAT_FILE", "data/queue.db"),
        ("COUPON_HEARTBEAT_FILE", "data/secret"),
    ],
)
def test_no_file_serves_two_settings(environ, name, value):
    files = {"COUPON_QUEUE_URL": "sqlite:///data/queue.db", "COUPON_SECRET": "", "COUPON_SECRET_FILE": "data/secret"}
    with pytest.raises(ConfigurationError, match="each of them needs a file of its own"):
        settings.load(environ | files | {name: value})


@pytest.mark.parametrize("name", ["COUPON_SECRETS", "COUPON_SECRET", "COUPON_STORE_URL"])
def test_a_wrong_setting_shows_no_secret(environ, name):
    with pytest.raises(ConfigurationError) as refused:
        settings.load(environ | {name: "key:pssst@host"})
    assert "pssst" not in str(refused.value)


def test_a_missing_setting_or_file_is_named(environ):
    del environ["COUPON_STORE_URL"]
    with pytest.raises(ConfigurationError, match="COUPON_STORE_URL"):
        settings.load(environ)
    with pytest.raises(ConfigurationError, match=r"COUPON_CONF='nowhere\.env'"):
        settings.load({"COUPON_CONF": "nowhere.env"})


def test_an_empty_setting_is_as_good_as_none(environ, tmp_path):
    (tmp_path / "empty.env").write_text("COUPON_SECRET_FILE=data/secret\nCOUPON_MAX_AMOUNT=5\n")
    loaded = settings.load({**environ, "COUPON_SECRET_FILE": "", "COUPON_MAX_AMOUNT": ""})
    assert (loaded.secret, loaded.max_amount) == (environ["COUPON_SECRET"], 1_000_000)
    with pytest.raises(ConfigurationError, match="COUPON_STORE_URL"):
        settings.load({**environ, "COUPON_STORE_URL": ""})


def test_a_short_secret_is_refused_and_not_shown(environ):
    with pytest.raises(ConfigurationError, match="COUPON_SECRET") as refused:
        settings.load({**environ, "COUPON_SECRET": "pssst"})
    assert "pssst" not in str(refused.value)


def test_the_secret_file_is_made_once_and_for_its_owner_only(environ, tmp_path):
    path = tmp_path / "new" / "secret"
    del environ["COUPON_SECRET"]
    environ["COUPON_SECRET_FILE"] = str(path)
    secret = settings.load(environ).secret
    assert len(secret) >= 32
    assert settings.load(environ).secret == secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_who_only_reads_makes_no_secret_file(environ, tmp_path):
    path = tmp_path / "new" / "secret"
    with pytest.raises(ConfigurationError, match=r"COUPON_SECRET_FILE=.* is missing .*coupon init"):
        settings.load(environ | {"COUPON_SECRET": "", "COUPON_SECRET_FILE": str(path)}, if_missing="refuse")
    assert not path.parent.exists()


@pytest.mark.parametrize("kind", ["a folder", "in a file", "no text"])
def test_a_secret_file_that_is_none_is_named(environ, tmp_path, kind):
    del environ["COUPON_SECRET"]
    (tmp_path / "file").write_bytes(b"\xff" * 40)
    path = {"a folder": tmp_path, "in a file": tmp_path / "file" / "secret", "no text": tmp_path / "file"}[kind]
    with pytest.raises(ConfigurationError, match=r"COUPON_SECRET_FILE=.*cannot be read or made"):
        settings.load({**environ, "COUPON_SECRET_FILE": str(path)})


def test_secrets_are_masked(environ):
    shown = str(settings.load(environ).masked())
    assert GIVEN["COUPON_SECRET"] not in shown
    assert "pass" not in shown.replace("COUPON_", "")
    assert "dynamodb://key:***@10.0.0.1:8000" in shown


def test_a_url_is_taken_apart():
    url = Url("kafka://one:9093,two?partitions=3&prefix=x.")
    assert url.addresses(9092) == [("one", 9093), ("two", 9092)]
    assert url.options(partitions=8, prefix="", timeout_s=1.5) == {"partitions": 3, "prefix": "x.", "timeout_s": 1.5}
    assert Url("redis://[::1],[::1]:7000").addresses(6379) == [("[::1]", 6379), ("[::1]", 7000)]
    assert Url("sqlite:////var/x.db").path == "/var/x.db"
    assert Url("dynamodb://k:a%40b@h").password == "a@b"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nothing", "not a URL"),
        ("memory://?surprise=1", "unknown option 'surprise'"),
        ("memory://?partitions=many", "not a whole number"),
        ("memory://?partitions=0", "above 0"),
        ("memory://?tls=perhaps", "true or false"),
        ("memory://?partitions", "name=value"),
    ],
)
def test_an_impossible_url_is_refused_with_a_reason(text, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        Url(text).options(partitions=8, tls=False)


@pytest.mark.parametrize("host", ["h:port", "h:0", "h:70000"])
def test_an_impossible_port_is_refused(host):
    with pytest.raises(ConfigurationError, match="port"):
        Url(f"kafka://{host}").addresses(9092)


@pytest.mark.parametrize("text", ["sqlite://data/store.db", "sqlite://", "sqlite:///"])
def test_a_url_that_names_no_file_is_refused(text):
    with pytest.raises(ConfigurationError, match="names no file"):
        Url(text).file()
