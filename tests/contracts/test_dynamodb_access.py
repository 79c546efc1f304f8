"""Whom DynamoDB lets in: AWS's chain of credentials, and TLS.

DynamoDB Local takes any key, and no TLS, so a proxy stands before it that checks both.
"""

import json
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

from backends.testing.coupons import some_coupons
from backends.testing.store import opened
from coupon.domain.errors import BackendUnavailable, ConfigurationError
from tests.contracts.checking_proxy import proxy_to, signed_by
from tests.services import Services

pytestmark = pytest.mark.services
KEY, SECRET, TOKEN = "AKIDCOUPON", "S3cret/abc+def/ghi", "a/session+token=="
ROLE = "coupon-role"


@pytest.fixture(autouse=True)
def _nothing_of_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials and no settings of this machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def keys() -> dict[str, tuple[str, str | None]]:
    """Those that are let in."""
    return {KEY: (SECRET, TOKEN)}


@pytest.fixture
def port(services: Services, certificate: Any, keys: dict[str, tuple[str, str | None]]) -> Iterator[int]:
    with proxy_to(services.dynamodb, signed_by(keys), certificate[1]) as port:
        yield port


@pytest.fixture
def url(port: int, dynamodb_table: str, certificate: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    return f"dynamodb://127.0.0.1:{port}?tls=true&region=eu-central-1&table={dynamodb_table}&timeout_s=10"


def works(url: str) -> None:
    coupons = some_coupons(3)
    with closing(opened(url)) as store:
        store.create()
        assert store.save_many(coupons) == set()
        assert store.get_many([coupon.code for coupon in coupons]).keys() == {coupon.code for coupon in coupons}


def is_unavailable(url: str, reason: str) -> None:
    with closing(opened(url)) as store:
        calls: list[Callable[[], Any]] = [store.ping, store.create, lambda: store.save_many(some_coupons(1))]
        calls += [lambda: store.get_many(["X"]), lambda: store.scan(1)]
        for call in calls:
            with pytest.raises(BackendUnavailable, match=reason) as refused:
                call()
            told = "".join(traceback.format_exception(refused.value))
            assert not any(secret in told for secret in (SECRET, TOKEN, "wr0ng"))


def test_credentials_of_the_environment_with_a_sessions_token(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    is_unavailable(url, "UnrecognizedClient")
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    works(url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wr0ng")
    is_unavailable(url, "InvalidSignature")


def test_credentials_of_a_profile(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    entry = "[{}]\naws_access_key_id={}\naws_secret_access_key={}\naws_session_token={}\n"
    file.write_text(entry.format("default", KEY, "wr0ng", TOKEN) + entry.format("coupon", KEY, SECRET, TOKEN))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    is_unavailable(url, "InvalidSignature")
    monkeypatch.setenv("AWS_PROFILE", "coupon")
    works(url)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_PROFILE", "nobody")
        is_unavailable(url, "profile.*nobody")


def test_credentials_of_an_instances_role(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    with metadata_of(lambda: _session(SECRET, TOKEN)) as address:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)
        works(url)


def test_credentials_of_a_container_are_renewed_before_they_expire(
    url: str, keys: dict[str, tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    current = [SECRET]
    with metadata_of(lambda: _session(current[0], TOKEN)) as address, closing(opened(url)) as store:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{address}/{ROLE}")
        store.create()
        current[0] = "renewed/secret"
        keys[KEY] = (current[0], TOKEN)
        assert store.get_many(["X"]) == {}
        assert store.save_many(some_coupons(1)) == set()


def test_credentials_of_the_url(url: str, keys: dict[str, tuple[str, str | None]]) -> None:
    keys[KEY] = (SECRET, None)
    works(url.replace("://", f"://{KEY}:{quote(SECRET, safe='')}@"))
    is_unavailable(url.replace("://", f"://{KEY}:wr0ng@"), "InvalidSignature")


def test_no_credentials_at_all(url: str) -> None:
    is_unavailable(url, "no AWS credentials found")


def test_the_endpoint_of_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    host = url.removeprefix("dynamodb://").partition("?")[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"https://{host}")
    works(url.replace(host, "").replace("tls=true&", ""))


def test_whom_it_does_not_trust_it_does_not_ask(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = url.replace("://", f"://{KEY}:{quote(SECRET, safe='')}@")
    is_unavailable(url.replace("127.0.0.1", "localhost"), "not valid for 'localhost'|doesn't match|SSL")
    monkeypatch.delenv("AWS_CA_BUNDLE")
    is_unavailable(url, "CERTIFICATE_VERIFY_FAILED")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere.pem")
    is_unavailable(url, r"/nowhere\.pem")


def test_a_server_that_never_answers_a_handshake_costs_no_more_than_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        url = f"dynamodb://k:s@127.0.0.1:{silent.getsockname()[1]}?tls=true&timeout_s=0.5"
        with closing(opened(url)) as store:
            for call in (store.ping, lambda: store.get_many(["X"]), lambda: store.save_many(some_coupons(1))):
                began = time.monotonic()
                with pytest.raises(BackendUnavailable, match="timed out"):
                    call()
                assert time.monotonic() - began < 2


@pytest.mark.parametrize("url", ["dynamodb://AKID@?region=x", "dynamodb://:S3cret@?region=x"])
def test_a_key_without_its_secret_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="a key without its secret, or a secret without its key") as refused:
        opened(url)
    assert "S3cret" not in str(refused.value)


def _session(secret: str, token: str) -> dict[str, str]:
    """Credentials that expire so soon that they are asked for again each time."""
    expires = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "Code": "Success",
        "AccessKeyId": KEY,
        "SecretAccessKey": secret,
        "Token": token,
        "Expiration": expires,
    }


@contextmanager
def metadata_of(session: Callable[[], dict[str, str]]) -> Iterator[str]:
    """What AWS has at 169.254.169.254 of an instance, and beside a container."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(json.dumps(session()) if self.path.endswith(ROLE) else ROLE)

        def do_PUT(self) -> None:
            self._say("a token of IMDSv2")

        def _say(self, text: str) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
