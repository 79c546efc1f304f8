"""Passwords, TLS, and URLs that cannot work."""

from contextlib import closing
from pathlib import Path

import pytest

from backends import redis_connections
from backends.testing.cache_rivals import open_cache, value_of
from backends.testing.queue_driving import messages, opened
from coupon.domain.errors import BackendUnavailable, ConfigurationError
from tests.contracts.private_server import free_port
from tests.contracts.redis.server import DURABLE, PrivateRedis

PASSWORD = "s3cret/with:marks"
QUOTED = "s3cret%2Fwith%3Amarks"


@pytest.mark.services
def test_a_password_is_sent_and_a_wrong_one_is_an_outage(server: PrivateRedis) -> None:
    server.start(*DURABLE, "--requirepass", PASSWORD)
    with closing(open_cache(f"redis://:{QUOTED}@127.0.0.1:{server.port}?timeout_s=2")) as cache:
        cache.put("k", b"v", 60)
        assert value_of(cache, "k") == b"v"
    for wrong in (
        server.url,
        f"redis://:wrong@127.0.0.1:{server.port}",
        f"redis://me:{QUOTED}@127.0.0.1:{server.port}",
    ):
        with closing(opened(wrong)) as queue, pytest.raises(BackendUnavailable, match=r"[Aa]uth|password") as refused:
            queue.ping()
        assert "s3cret" not in str(refused.value)


@pytest.mark.services
def test_over_tls_it_trusts_the_authorities_that_the_operator_names_and_nobody_else(
    server: PrivateRedis, certificate: tuple[Path, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = certificate
    port = free_port()
    files = ["--tls-cert-file", str(path), "--tls-key-file", str(path.with_name("key.pem"))]
    server.start(*DURABLE, "--tls-port", str(port), *files, "--tls-auth-clients", "no")
    url = f"redis://127.0.0.1:{port}?tls=true&timeout_s=2&partitions=2"
    with closing(opened(url)) as queue, pytest.raises(BackendUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        queue.ping()
    with closing(opened(f"{url}&ca={path}")) as queue:
        queue.ping()
    with (
        closing(opened(f"{url}&ca={path}".replace("127.0.0.1", "localhost"))) as queue,
        pytest.raises(BackendUnavailable, match="not valid for 'localhost'"),
    ):
        queue.ping()
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with closing(opened(url)) as queue:
        queue.create(["t"])
        queue.publish(messages(100))
        assert len(list(queue.browse("t"))) == 100
    with closing(open_cache(url.partition("?")[0] + "?tls=true&timeout_s=2")) as cache:
        cache.put("k", b"v" * 100_000, 60)
        assert value_of(cache, "k") == b"v" * 100_000


@pytest.mark.services
def test_a_server_that_is_too_old_says_so(server: PrivateRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    server.start(*DURABLE)
    monkeypatch.setattr(redis_connections, "OLDEST", 1_000)
    with closing(opened(server.url)) as queue, pytest.raises(BackendUnavailable, match="1000 is the oldest"):
        queue.ping()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis://one,two", "names 2 servers"),
        ("redis://h/one", "not the number of a database"),
        ("redis://h:0", "port '0'"),
        ("redis://h?prefix=a+b", "prefix='a b'"),
        ("redis://h?cluster=true", "unknown option 'cluster'"),
        ("redis://me:s3cret@h?timeout_s=soon", "timeout_s='soon'"),
        ("redis://me:s3cret/rest@h", "write %2F"),
        ("redis://me:s3cret#rest@h", "write %2F"),
        ("redis://me:s3cret?rest=1@h", "write %2F"),
        ("redis://me:s3cret@h?ca=/ca.pem", "of no use without tls=true"),
        ("redis://me:s3cret@h?tls=true&ca=/nowhere.pem", "no file of certificates"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, sentence: str) -> None:
    for open_it in (open_cache, opened):
        with pytest.raises(ConfigurationError, match=sentence) as refused:
            open_it(url)
        assert "s3cret" not in str(refused.value)
