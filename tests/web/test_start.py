"""How the application starts, and how it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coupon.domain.errors import ConfigurationError
from coupon.web import create_app

ROOT = Path(__file__).parents[2]
APP_LOAD_ERROR = 4


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


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"COUPON_TIMEZONE": "Mars/Olympus"},
            "COUPON_TIMEZONE='Mars/Olympus' is not a time zone of the IANA database",
        ),
        ({"WEB_THREADS": "x"}, "WEB_THREADS='x' is not a whole number from 1 to 1024"),
        ({"WEB_PIN_CPU": "2"}, "WEB_PIN_CPU='2' is not a whole number from 0 to 1"),
    ],
)
def test_gunicorn_ends_with_the_sentence_and_no_traceback(environ, wrong, sentence):
    gunicorn = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", "-b", "127.0.0.1:0", "wsgi:app"],
        env={"PATH": os.environ["PATH"], "WEB_CONCURRENCY": "1", **environ, **wrong},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert gunicorn.returncode == APP_LOAD_ERROR
    assert gunicorn.stderr.count(sentence) == 1
    assert "Traceback" not in gunicorn.stderr
