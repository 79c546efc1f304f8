"""What is a secret in a URL is shown nowhere, whatever it holds."""

import traceback
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from urllib.parse import quote

import click.testing
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coupon import cli
from coupon.domain.errors import ConfigurationError
from coupon.ports.cache import Cache
from coupon.ports.queue import Queue
from coupon.ports.search import Search
from coupon.ports.store import Store
from coupon.ports.url import Url
from coupon.runtime import settings, wiring

ROLES = {"cache": Cache, "queue": Queue, "store": Store, "search": Search}
PLACES = [(role, scheme) for role, schemes in wiring.BUILT_IN.items() for scheme in schemes]
MARK = "S3cret"
"""In each secret. No name, no number and no other text has it."""
MARKS = st.text("/#+?[]%@:&=,;{}()\\'\"!$*^|~<> \t\né한", max_size=4)
SECRETS = st.builds("{}{}{}{}".format, MARKS, st.just(MARK), MARKS, st.text("ab1", max_size=2))
OPTIONS = st.sampled_from(["", "?timeout_s=1", "?timeout_s=soon", "?no_such_option=1", "?timeout_s", "/0?prefix=x."])
HOSTS = st.sampled_from(["", "h", "10.0.0.1:1234", "h:port", "h:99999", "one,two:1", "[::1]:9092"])


def shown_by(role: str, text: str) -> Iterator[str]:
    """All that is made of a URL before its backend is used."""
    try:
        url = Url(text)
        yield from (str(url), repr(url))
        with closing(wiring.open_backend(ROLES[role], url)) as backend:  # type: ignore[type-abstract]
            yield repr(backend)
        yield from (str(url), repr(url))
    except ConfigurationError as error:
        yield "".join(traceback.format_exception(error, limit=0))


@given(st.sampled_from(PLACES), st.sampled_from(["", "ann"]), SECRETS, HOSTS, OPTIONS)
@example(("store", "dynamodb"), "AKIA", "S3cret/abc+def", "", "?region=eu-central-1")
@example(("search", "elasticsearch"), "", "S3cret+/=", "h", "")
def test_a_password_as_it_has_to_be_written(place, user, secret, host, options):
    role, scheme = place
    for shown in shown_by(role, f"{scheme}://{user}:{quote(secret, safe='')}@{host}{options}"):
        assert MARK not in shown


@given(st.sampled_from(PLACES), st.sampled_from(["", "ann"]), SECRETS, HOSTS, OPTIONS)
@example(("store", "dynamodb"), "AKIA", "S3cret/abc+def", "", "?region=eu-central-1")
@example(("search", "elasticsearch"), "u", "a[S3cret", "h", "")
@example(("cache", "redis"), "u", "a?S3cret=1&b", "h", "")
@example(("cache", "redis"), "u", "a@S3cret", "h", "")
@example(("cache", "redis"), "u", "/:S3cret", "", "")
def test_a_password_as_somebody_may_write_it(place, user, secret, host, options):
    role, scheme = place
    for shown in shown_by(role, f"{scheme}://{user}:{secret}@{host}{options}"):
        assert MARK not in shown


@given(st.sampled_from(PLACES), SECRETS, st.sampled_from(["password", "api_key", "pass", "x-y", "ssl_password"]))
def test_the_value_of_an_option_that_nobody_knows(place, secret, name):
    role, scheme = place
    for shown in shown_by(role, f"{scheme}://h?{name}={quote(secret, safe='')}"):
        assert MARK not in shown


@given(st.sampled_from(PLACES), SECRETS)
def test_a_password_whose_host_was_forgotten(place, secret):
    role, scheme = place
    for shown in shown_by(role, f"{scheme}://ann:{quote(secret, safe='')}?timeout_s=1"):
        assert MARK not in shown


@pytest.mark.parametrize("text", ["elasticsearch:/u:S3cret@h", "u:S3cret@h", "://u:S3cret@h", "kafka:u:S3cret@h?x=1"])
def test_what_is_no_url_may_hold_a_password(text):
    with pytest.raises(ConfigurationError, match="not a URL") as refused:
        Url(text)
    assert MARK not in str(refused.value)


def test_a_password_where_a_path_belongs():
    assert MARK not in str(Url("dynamodb:///AKIA:S3cret@"))
    assert str(Url("sqlite:///data/x@y.db")) == "sqlite:///data/x@y.db"


@pytest.mark.parametrize("name", ["password", "api_key", "ssl_passwd", "token", "secret", "credentials"])
def test_an_option_of_a_plugin_whose_name_tells_of_a_secret(name):
    url = Url(f"ours://h?{name}=S3cret&size=3")
    assert url.options(**{name: "", "size": 1}) == {name: "S3cret", "size": 3}
    assert str(url) == f"ours://h/?{name}=***&size=3"


@given(st.sampled_from([f"COUPON_{role.upper()}_URL" for role in ROLES]), st.sampled_from(["", "ann"]), SECRETS)
def test_no_setting_shows_a_secret(name, user, secret):
    quoted = quote(secret, safe="")
    scheme = {"CACHE": "redis", "QUEUE": "kafka", "STORE": "dynamodb", "SEARCH": "elasticsearch"}[name.split("_")[1]]
    environ = {"COUPON_CONF": "conf/test.env", name: f"{scheme}://{user}:{quoted}@h?timeout_s=1"}
    loaded = settings.load(environ)
    assert MARK not in f"{loaded!r}{loaded}{loaded.masked()}{replace(loaded, secret=secret * 3)!r}"
    with suppress(ConfigurationError):  # of a user without a name
        assert MARK not in str(wiring.open_backends(loaded))


@pytest.mark.parametrize(
    "name", ["COUPON_SECRT", "COUPON_SECRETS", "COUPON_QUEUE_UR", "COUPON_STORE", "COUPON_PASSWORD", "COUPON_X"]
)
def test_a_setting_that_is_none_may_hold_a_secret(name):
    with pytest.raises(ConfigurationError, match=f"{name} is not a setting") as refused:
        settings.load({"COUPON_CONF": "conf/test.env", name: "kafka://u:S3cret@h"})
    assert MARK not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("dynamodb://AKIA:S3cret%2Fabc+def@?region=eu-central-1", "dynamodb://AKIA:***@/?region=eu-central-1"),
        ("dynamodb://?region=eu-central-1&table=Mine", "dynamodb:///?region=eu-central-1&table=Mine"),
    ],
)
def test_the_command_shows_what_is_in_force_and_no_secret(url, shown, monkeypatch):
    monkeypatch.setenv("COUPON_CONF", "conf/test.env")
    monkeypatch.setenv("COUPON_STORE_URL", url)
    for arguments in (["settings"], ["settings", "--json"]):
        done = click.testing.CliRunner().invoke(cli.coupon, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        assert shown in done.output
        assert MARK not in done.output


def test_a_wrong_url_is_named_by_its_setting_and_what_was_understood_of_it(monkeypatch):
    with pytest.raises(ConfigurationError) as refused:
        wiring.open_backend(Queue, "kafka://ann:S3cret@h:9092?timeout_s=2&acks=S3cret")  # type: ignore[type-abstract]
    said, _, accepted = str(refused.value).partition("; accepted: ")
    shown = "kafka://ann:***@h:9092/?timeout_s=2&acks=***"
    assert said == f"COUPON_QUEUE_URL={shown}: {shown} has an unknown option 'acks'"
    assert "timeout_s" in accepted
