"""TLS, passwords and API keys, by a proxy that checks them: the Elasticsearch of the tests has no such module."""

import socket
import time
import traceback
from base64 import b64encode
from contextlib import closing
from urllib.parse import quote

import pytest

from backends.testing.coupons import some_coupons
from backends.testing.search import CALLS, held, holds, opened
from coupon.domain.errors import BackendUnavailable, ConfigurationError
from tests.contracts.checking_proxy import Refusal, proxy_to

pytestmark = [
    pytest.mark.services,
    pytest.mark.usefixtures("elasticsearch_refreshes_soon", "rebuilds_begin_soon"),
]
PASSWORD = "s3cret/w+th?m#rks[%:@&="
QUOTED = quote(PASSWORD, safe="")
KEY = b64encode(b"VuaCfGcBCdbkQm-e5aOx:ui2lp2axTNmsyakw9tvNnw??").decode()
ALLOWED = {f"Basic {b64encode(f'ann:{PASSWORD}'.encode()).decode()}", f"ApiKey {KEY}"}
UNAUTHORIZED = b'{"error":{"type":"security_exception","reason":"unable to authenticate"},"status":401}'


@pytest.fixture
def port(services, certificate):
    """Of one that is served with TLS to those who are allowed."""

    def check(request):
        return None if request.headers.get("authorization") in ALLOWED else Refusal(401, UNAUTHORIZED)

    with proxy_to(services.elasticsearch, check, certificate[1]) as port:
        yield port


@pytest.fixture
def url(port, index, certificate):
    def url(credentials=f"ann:{QUOTED}@", host="127.0.0.1", ca=certificate[0], timeout_s=10):
        authority = f"&ca={ca}" if ca else ""
        return f"elasticsearch://{credentials}{host}:{port}?tls=true{authority}&index={index}&timeout_s={timeout_s}"

    return url


@pytest.mark.parametrize("credentials", [f"ann:{QUOTED}@", f":{quote(KEY, safe='')}@"], ids=["password", "API key"])
def test_who_shows_the_right_credentials_gets_in(url, credentials):
    coupons = some_coupons(3)
    with closing(opened(url(credentials))) as search:
        search.create()
        search.ping()
        search.index_many(coupons)
        search.index_many(held(coupons, "ann"))
        with search.rebuild() as rebuild:
            rebuild.add_many(held(coupons, "ann"))
        holds(search, held(coupons, "ann"))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"credentials": "ann:wr0ng@"}, "answers 401"),
        ({"credentials": ":wr0ngkey@"}, "answers 401"),
        ({"credentials": ""}, "answers 401"),
        ({"ca": ""}, "CERTIFICATE_VERIFY_FAILED"),
        ({"host": "localhost"}, "not valid for 'localhost'"),
    ],
    ids=["password", "API key", "nobody", "authority", "name"],
)
def test_who_does_not_is_told_why(url, wrong, reason, call):
    with closing(opened(url(**wrong))) as search, pytest.raises(BackendUnavailable, match=reason) as refused:
        CALLS[call](search)
    told = "".join(traceback.format_exception(refused.value))
    assert not any(secret in told for secret in ("wr0ng", PASSWORD, QUOTED, *ALLOWED))


def test_the_authorities_of_the_machine_are_those_of_ssl_cert_file(url, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with closing(opened(url(ca=""))) as search:
        search.create()
        search.ping()


def test_a_server_that_never_answers_a_handshake_costs_no_more_than_the_timeout(certificate):
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with closing(opened(f"elasticsearch://{address}?tls=true&ca={certificate[0]}&timeout_s=0.5")) as search:
            for name, call in CALLS.items():
                began = time.monotonic()
                with pytest.raises(BackendUnavailable, match=r"within 0\.5 s"):
                    call(search)
                assert time.monotonic() - began < 2, name


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("elasticsearch://:s3cret%0Ax@h", "no API key as Elasticsearch encodes it"),
        ("elasticsearch://ann:s3cret/@h", "write %2F"),
        ("elasticsearch://ann:s3cret@h?api_key=s3cret", "unknown option 'api_key'"),
        ("elasticsearch://h?ca=/ca.pem", "of no use without tls=true"),
        ("elasticsearch://h?tls=true&ca=/nowhere.pem", "ca='/nowhere.pem' is no file of certificates"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url, sentence):
    with pytest.raises(ConfigurationError, match=sentence) as refused:
        opened(url)
    assert "s3cret" not in str(refused.value)
