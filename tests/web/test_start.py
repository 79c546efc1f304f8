"""How the application starts, and how it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coupon.ports.url import ConfigurationError
from coupon.web import create_app

ROOT = Path(__file__).parents[2]


def test_the_application_is_made_from_the_environment_alone(environ, monkeypatch):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    app = create_app()
    assert app.test_client().get("/livez").status_code == 200
    app.extensions["coupon"].close()


def test_making_the_application_opens_nothing(environ, monkeypatch, tmp_path):
    for role in ("cache", "queue", "store", "search"):
        monkeypatch.setenv(f"COUPON_{role.upper()}_URL", f"sqlite:///{tmp_path}/data/{role}.db")
    for name in ("COUPON_CONF", "COUPON_SECRET"):
        monkeypatch.setenv(name, environ[name])
    create_app()
    assert not (tmp_path / "data").exists()


def test_a_wrong_setting_ends_the_start_with_a_sentence_that_names_it(environ, monkeypatch):
    for name, value in (environ | {"COUPON_QUEUE_URL": "kafak://x"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="COUPON_QUEUE_URL=kafak://x/: unknown scheme 'kafak'"):
        create_app()


def test_gunicorn_ends_with_the_sentence_and_no_traceback(environ):
    gunicorn = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-b", "127.0.0.1:0", "--no-control-socket", "wsgi:app"],
        env={"PATH": os.environ["PATH"], **environ, "COUPON_TIMEZONE": "Mars/Olympus"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert gunicorn.returncode != 0
    assert gunicorn.stderr.count("COUPON_TIMEZONE='Mars/Olympus': is not a time zone of the IANA database") == 1
    assert "Traceback" not in gunicorn.stderr
