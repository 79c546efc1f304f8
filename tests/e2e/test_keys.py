"""API keys on real processes: a change counts everywhere within a second, and nobody starts unprotected."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from coupon.cli import run
from tests.e2e.deployment import ROOT, Deployment, embedded, eventually, free_port


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """Three processes; each test leaves its keys."""
    with Deployment(embedded(tmp_path_factory.mktemp("service")), web=3, workers=0) as running:
        yield running


def key(service, *arguments):
    return json.loads(service.coupon("keys", *arguments, "--json").stdout)["key"]


def statuses(service, token, number=24):
    """Of as many requests on connections of their own, so that each of the processes answers some."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{service.url}/v1/users/ann/coupons"
    return {requests.get(url, headers=headers, timeout=10).status_code for _ in range(number)}


def test_the_first_key_closes_the_service_and_a_revoked_one_is_out_within_a_second(service):
    """The first test: there is no key yet."""
    assert statuses(service, None) == {200}
    admin = key(service, "create", "--name", "admin", "--role", "admin")
    time.sleep(1)
    assert statuses(service, None) == {401}
    assert statuses(service, admin) == {200}
    shop = key(service, "create", "--name", "shop", "--role", "app")
    eventually(lambda: statuses(service, shop) == {200}, 2)
    service.coupon("keys", "revoke", "shop")
    time.sleep(1)
    assert statuses(service, shop) == {401}
    assert statuses(service, admin) == {200}


def test_a_rotated_key_has_two_tokens_for_a_while(service):
    first = key(service, "create", "--name", "till", "--role", "viewer")
    second = key(service, "rotate", "till", "--overlap", "4s")
    time.sleep(1)
    assert statuses(service, first) == statuses(service, second) == {200}
    eventually(lambda: statuses(service, first) == {401}, 8)
    assert statuses(service, second) == {200}


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Runs the CLI in this process; gives its exit status, and what it printed."""
    for name, value in embedded(tmp_path).items():
        monkeypatch.setenv(name, value)

    def ran(*arguments):
        status = run(arguments)
        return status, *capsys.readouterr()

    assert ran("init")[0] == 0
    return ran


def test_a_token_is_shown_once(here):
    status, token, told = here("keys", "create", "--name", "shop", "--role", "app", "--expires", "90d")
    assert status == 0
    assert token.startswith("ck_")
    assert "the only time" in told
    assert token.strip() not in told
    (listed,) = [json.loads(line) for line in here("keys", "list", "--json")[1].splitlines()]
    assert (listed["name"], listed["role"], listed["validTokens"]) == ("shop", "app", 1)
    assert token.strip().removeprefix("ck_") not in here("keys", "list")[1]


def test_a_script_makes_the_first_key_only(here):
    first = ("keys", "create", "--name", "first", "--role", "admin", "--if-none")
    assert here(*first)[1].startswith("ck_")
    assert here(*first) == (0, "", "there are keys already, so none was made\n")


def test_the_last_key_is_revoked_only_when_that_is_meant(here):
    here("keys", "create", "--name", "shop", "--role", "app")
    status, _, told = here("keys", "revoke", "shop")
    assert (status, "--last" in told) == (2, True)
    assert here("keys", "revoke", "shop", "--last")[0] == 0
    assert "there is no key" in here("keys", "list")[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "--name", "shop", "--role", "app"], "there is a key 'shop' already"),
        (["create", "--name", "a b", "--role", "app"], "'a b' is no name of a key"),
        (["create", "--name", "x", "--role", "king"], "'king' is not one of"),
        (["create", "--name", "x", "--role", "app", "--expires", "2020-01-01"], "is not in the future"),
        (["create", "--name", "x", "--role", "app", "--expires", "0"], "is not in the future"),
        (["create", "--name", "x", "--role", "app", "--expires", "tomorrow"], "is no duration"),
        (["rotate", "shop", "--overlap", "soon"], "is no duration"),
        (["rotate", "till"], "there is no key 'till'"),
        (["revoke", "till"], "there is no key 'till'"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(here, arguments, sentence):
    here("keys", "create", "--name", "shop", "--role", "app")
    status, printed, told = here("keys", *arguments)
    assert (status, printed) == (2, "")
    assert sentence in told
    assert "Traceback" not in told


def gunicorn(environ, **more):
    command = [sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", "wsgi:app"]
    environ = environ | {"PORT": str(free_port()), "WEB_CONCURRENCY": "1"} | more
    return subprocess.Popen(command, env=environ, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_a_service_that_others_reach_starts_with_a_key_only(tmp_path):
    environ = embedded(tmp_path)
    Deployment(environ).coupon("init")
    refused = gunicorn(environ, HOST="0.0.0.0")
    _, told = refused.communicate(timeout=30)
    assert refused.returncode == 4
    assert "coupon keys create" in told
    assert "Traceback" not in told
    key(Deployment(environ), "create", "--name", "admin", "--role", "admin")
    for more in ({}, {"COUPON_AUTH": "gateway"}):
        started = gunicorn(environ, HOST="0.0.0.0", **more)
        try:
            lines = iter(started.stderr.readline, "")
            assert any("not encrypted" in line for line in lines)
            assert any("Listening at" in line for line in lines)
        finally:
            started.kill()
            started.communicate()


def test_an_open_service_says_so_at_its_start(tmp_path):
    environ = embedded(tmp_path)
    Deployment(environ).coupon("init")
    started = gunicorn(environ)
    try:
        assert any('"event":"open"' in line and "no API key" in line for line in iter(started.stderr.readline, ""))
    finally:
        started.kill()
        started.communicate()


def test_all_files_are_their_owners_only(tmp_path):
    before = os.umask(0o022)
    try:
        with Deployment(embedded(tmp_path)) as running:
            for file in Path(tmp_path).glob("*.lock"):
                file.chmod(0o644)  # as an earlier version made it
            body = {"amount": 1, "validFrom": "2026-11-01", "expireAt": "2027-12-31"}
            headers = {"Prefer": "wait=10"}
            assert running.session.post(f"{running.url}/v1/coupons", json=body, headers=headers).status_code == 200
    finally:
        os.umask(before)
    files = [file for file in Path(tmp_path).iterdir() if ".db" in file.name or file.name.endswith("heartbeat")]
    assert len(files) >= 5
    assert {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in files if file.stat().st_mode & 0o077} == {}
