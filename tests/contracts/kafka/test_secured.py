"""Kafka with TLS, with passwords and with certificates of clients: who gets in, who does not, and what is told."""

import logging
import re
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from kafka import KafkaAdminClient

from backends.testing.links import Link, Links
from backends.testing.outages import QueueOutages
from backends.testing.queue_driving import drain, messages, opened, values
from backends.testing.queue_failures import GONE_MAX_S, WHEN_GONE
from backends.testing.timing import TRIES, until_available
from coupon.domain.errors import BackendUnavailable, ConfigurationError
from coupon.ports.queue import Message, Queue
from tests.contracts.kafka.secured import MECHANISMS, PASSWORD, STRANGER, SecuredKafka
from tests.services import ROOT

WAYS = {
    "TLS": lambda kafka: kafka.url("tls"),
    "a certificate": lambda kafka: kafka.url("mutual"),
    "a certificate with its key": lambda kafka: _with_both(kafka),
    "a password without TLS": lambda kafka: kafka.url("clear"),
    "a password again and again": lambda kafka: kafka.url("renewed"),
    **{mechanism: lambda kafka, each=mechanism: kafka.url("login", f"sasl={each}") for mechanism in MECHANISMS},
}
REFUSED: dict[str, tuple[Callable[[SecuredKafka], str], str]] = {
    "a wrong password": (lambda kafka: kafka.url("login", password="wr0ng/"), "invalid credentials"),
    "a wrong plain password": (lambda kafka: kafka.url("login", "sasl=PLAIN", password="wr0ng/"), "Invalid username"),
    "an unknown user": (lambda kafka: kafka.url("login", user="zoe"), "invalid credentials"),
    "no user": (lambda kafka: kafka.url("login", user=""), "asked with TLS and without a user"),
    "a user where there are none": (lambda kafka: _with_user(kafka.url("tls")), "IllegalSaslState"),
    "no TLS": (lambda kafka: f"kafka://127.0.0.1:{kafka.ports['tls']}?partitions=4", "asked without TLS"),
    "TLS where there is none": (lambda kafka: f"kafka://{kafka.plain}?tls=true", "Handshake failed"),
    "another authority": (lambda kafka: _with_ca(kafka, kafka.stranger.path), "CERTIFICATE_VERIFY_FAILED"),
    "the machine's authorities": (lambda kafka: _with_ca(kafka, ""), "CERTIFICATE_VERIFY_FAILED"),
    "another name": (lambda kafka: kafka.url("tls", host="localhost"), "not valid for 'localhost'"),
    "another name of its brokers": (lambda kafka: kafka.url("elsewhere"), "not valid for 'localhost'"),
    "no certificate": (lambda kafka: _without_certificate(kafka), "alert|asked with TLS"),
    "another's certificate": (lambda kafka: kafka.url("mutual").replace("coupon", "stranger"), "alert|asked with TLS"),
    "a user without rights": (lambda kafka: kafka.url("login", user=STRANGER), "AuthorizationFailed"),
}
PINGED = ("a user without rights", "another name of its brokers")
"""Who is answered a ping: the address of the URL is right, and so is the user."""
OPERATIONS = ROOT / "docs" / "operations.md"
AT_DEBUG = """
import sys
from contextlib import suppress
from coupon.domain.errors import BackendUnavailable
from coupon.runtime import logs
from coupon.ports.queue import Message
from backends.queue.kafka_client import Cluster
from backends.testing.queue_driving import opened
from coupon.ports.url import Url
logs.configure("debug", "json")
for url in sys.argv[1:]:
    print(repr(Cluster.from_url(Url(url))), Url(url), repr(Url(url)))
    queue = opened(url)
    with suppress(BackendUnavailable):
        queue.create(["t"])
        queue.publish([Message("t", "k", b"v")])
        queue.consumer(["t"], "g").poll(1, 0.5)
    queue.close()
"""
"""A program with all that can be logged."""
pytestmark = pytest.mark.services


@pytest.fixture
def prefix(kafka: SecuredKafka) -> Iterator[str]:
    with kafka.namespace() as prefix:
        yield prefix


class TestKafkaOutagesOverTls(QueueOutages):
    @pytest.fixture
    def server(self, kafka: SecuredKafka) -> str:
        return f"127.0.0.1:{kafka.link[0]}"

    @pytest.fixture
    def link(self, kafka: SecuredKafka, links: Links) -> Link:
        return links.open("kafka", *kafka.link)

    @pytest.fixture
    def url_at(self, kafka: SecuredKafka, prefix: str) -> Callable[[str], str]:
        tls = f"tls=true&ca={kafka.server.path}"
        return lambda address: f"kafka://{address}?prefix={prefix}&partitions=4&timeout_s=1&{tls}"


@pytest.mark.parametrize("way", WAYS)
def test_who_shows_what_is_wanted_gets_in(kafka: SecuredKafka, prefix: str, way: str) -> None:
    with closing(opened(f"{WAYS[way](kafka)}&prefix={prefix}")) as queue:
        queue.create(["t"])
        queue.publish([*messages(500), Message("t", "large", b"v" * 900_000)])
        queue.publish(messages(1))
        assert len(drain([queue.consumer(["t"], "g")], 502)[0]) == 502
        assert len(values(queue.browse("t"))) == sum(queue.ends(["t"]).values()) == 502
        assert queue.lag(["t"], "g") == 0


def test_a_password_that_has_to_be_shown_again_interrupts_nobody(kafka: SecuredKafka, prefix: str) -> None:
    """The broker ends connections that do not log in again within two seconds."""
    with closing(opened(kafka.url("renewed", f"prefix={prefix}&partitions=4"))) as queue:
        queue.create(["t"])
        consumer, found, count = queue.consumer(["t"], "g"), 0, 0
        until = time.monotonic() + 5
        while time.monotonic() < until:
            queue.publish(messages(10))
            count += 10
            found += len(drain([consumer], 10)[0])
        assert found == count


@pytest.mark.parametrize("who", REFUSED)
def test_who_does_not_is_told_why_in_time(kafka: SecuredKafka, prefix: str, who: str) -> None:
    way, reason = REFUSED[who]
    asked = ["publish", "consumer", "ends", *(["ping"] if who not in PINGED else [])]
    url = f"{way(kafka)}&prefix={prefix}&timeout_s=2"
    with ThreadPoolExecutor() as pool:
        for told in pool.map(lambda method: _refusal(url, method, reason), asked):
            assert not any(secret in told for secret in ("wr0ng", PASSWORD, quote(PASSWORD, safe="")))


def test_the_rights_that_are_told_suffice(kafka: SecuredKafka, prefix: str) -> None:
    for command in re.findall(r"kafka-acls.sh .*\\\n.*", OPERATIONS.read_text()):
        words = command.replace("127.0.0.1:9092", kafka.plain).replace("User:coupon", f"User:{STRANGER}")
        kafka.servers.kafka_tool("AclCommand", *words.replace("coupon.", prefix).replace("\\\n", "").split()[1:])
    with closing(opened(kafka.url("login", f"prefix={prefix}&partitions=4", user=STRANGER))) as queue:
        until_available(lambda: queue.create(["t"]))
        until_available(lambda: queue.publish(messages(100)))
        assert len(drain([queue.consumer(["t"], "g")], 100)[0]) == 100
        assert queue.lag(["t"], "g") == 0
        assert len(list(queue.browse("t"))) == 100


def test_others_in_the_process_use_the_driver_as_it_is(kafka: SecuredKafka) -> None:
    tls = {"security_protocol": "SSL", "ssl_cafile": str(kafka.server.path)}
    with closing(KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{kafka.ports['tls']}", **tls)) as admin:
        assert admin.describe_cluster()["brokers"]


def test_a_wrong_password_is_shown_once_a_call(kafka: SecuredKafka, caplog: pytest.LogCaptureFixture) -> None:
    """Who tries again and again locks the user out, where passwords are kept in a directory."""
    caplog.set_level(logging.INFO, "kafka")
    with (
        closing(opened(kafka.url("login", "timeout_s=2", password="wr0ng/"))) as queue,
        pytest.raises(BackendUnavailable, match="invalid credentials"),
    ):
        queue.publish(messages(1))
    assert sum("Initializing connection" in record.message for record in caplog.records) == 1


def test_a_server_that_never_answers_a_handshake_costs_no_more_than_the_timeout(kafka: SecuredKafka) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        url = f"kafka://u:p@127.0.0.1:{silent.getsockname()[1]}?tls=true&ca={kafka.server.path}&timeout_s=1"
        with closing(opened(url)) as queue, ThreadPoolExecutor(len(WHEN_GONE)) as pool:
            began = time.monotonic()
            for refused in [pool.submit(call, queue) for call in WHEN_GONE.values()]:
                assert isinstance(refused.exception(), BackendUnavailable)
            assert time.monotonic() - began < 3


def test_a_client_that_is_not_let_in_leaves_no_file_open(kafka: SecuredKafka) -> None:
    with closing(opened(_with_ca(kafka, kafka.stranger.path) + "&timeout_s=1")) as queue:
        before = None
        for _ in range(4):
            with pytest.raises(BackendUnavailable):
                queue.ends(["t"])
            before = before or _open_files()
        assert _open_files() <= before


def test_a_password_is_in_no_log_and_in_no_repr(kafka: SecuredKafka, prefix: str) -> None:
    urls = [f"{kafka.url('login', f'sasl={each}')}&prefix={prefix}&timeout_s=1" for each in ("PLAIN", "SCRAM-SHA-512")]
    urls += [kafka.url("login", "sasl=PLAIN&timeout_s=1", password=PASSWORD + "!")]
    done = subprocess.run([sys.executable, "-c", AT_DEBUG, *urls], capture_output=True, check=True)
    told = (done.stdout + done.stderr).decode()
    assert "***" in told
    assert not any(secret in told for secret in (PASSWORD, quote(PASSWORD, safe=""), repr(PASSWORD)[1:-1]))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("kafka://h?sasl=GSSAPI", "sasl='GSSAPI' is not one of SCRAM-SHA-512, SCRAM-SHA-256, PLAIN"),
        ("kafka://ann@h", "a user without a password"),
        ("kafka://:s3cret@h", "a password without a user"),
        ("kafka://h?ca=/ca.pem", "ca='/ca.pem' is of no use without tls=true"),
        ("kafka://h?certificate=/c.pem", "certificate='/c.pem' is of no use without tls=true"),
        ("kafka://h?tls=true&ca=/nowhere.pem", "ca='/nowhere.pem' is no file of certificates .*No such file"),
        ("kafka://h?tls=true&ca=/etc/hostname", "ca='/etc/hostname' is no file of certificates"),
        ("kafka://h?tls=true&key=/key.pem", "key='/key.pem' is of no use without a certificate"),
        ("kafka://h?tls=true&certificate=/nowhere.pem", "certificate='/nowhere.pem' cannot be used: No such file"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as refused:
        opened(url)
    assert "s3cret" not in str(refused.value)


def _refusal(url: str, method: str, reason: str) -> str:
    """What is told of it. On a busy machine a try may end before the server has said why."""
    for _ in range(TRIES):
        began = time.monotonic()
        with closing(opened(url)) as queue, pytest.raises(BackendUnavailable) as refused:
            _insist(queue, method)
        assert time.monotonic() - began < GONE_MAX_S
        if re.search(reason, str(refused.value)):
            break
    else:
        raise AssertionError(f"{method}: {refused.value}")
    return "".join(traceback.format_exception(refused.value))


def _insist(queue: Queue, method: str) -> None:
    """A consumer finds some things out only in the background."""
    if method != "consumer":
        WHEN_GONE[method](queue)
        return
    consumer = queue.consumer(["t"], "g")
    until = time.monotonic() + GONE_MAX_S
    while time.monotonic() < until:
        consumer.poll(1, 0.1)


def _with_user(url: str) -> str:
    return url.replace("kafka://", "kafka://ann:s3cret@")


def _with_ca(kafka: SecuredKafka, path: Path | str) -> str:
    return kafka.url("tls").replace(f"ca={kafka.server.path}", f"ca={path}")


def _with_both(kafka: SecuredKafka) -> str:
    port = kafka.ports["mutual"]
    return f"kafka://127.0.0.1:{port}?tls=true&ca={kafka.server.path}&certificate={kafka.client.both}"


def _without_certificate(kafka: SecuredKafka) -> str:
    return f"kafka://127.0.0.1:{kafka.ports['mutual']}?tls=true&ca={kafka.server.path}"


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
