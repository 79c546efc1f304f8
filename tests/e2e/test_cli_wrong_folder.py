"""A command that only reads makes nothing in a directory that is not the service's: it says what is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.deployment import ROOT, Deployment, embedded

COUPON = str(Path(sys.executable).parent / "coupon")
READING = ["lag", "dead-letters list", "dead-letters replay --all", "export", "reindex", "restore", "import rows.csv"]
FRESH = {"COUPON_CONF": str(ROOT / "conf" / "embedded.env"), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
WITH_SECRET = FRESH | {"COUPON_SECRET_FILE": "", "COUPON_SECRET": "a secret for tests only"}


def coupon(folder, environ, command):
    (folder / "rows.csv").touch()
    ran = subprocess.run(
        [COUPON, *command.split()], cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    (folder / "rows.csv").unlink()
    return ran


@pytest.mark.parametrize("command", [*READING, "worker-alive"])
def test_a_missing_secret_is_named_and_not_made(command, tmp_path):
    ran = coupon(tmp_path, FRESH, command)
    assert ran.returncode == 2
    assert ran.stderr.startswith("coupon: COUPON_SECRET_FILE='data/secret' is missing")
    assert "coupon init" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_settings_are_shown_on_a_new_machine_with_the_secret_file_to_come(tmp_path):
    ran = coupon(tmp_path, FRESH, "settings --json")
    assert ran.returncode == 0
    shown = json.loads(ran.stdout)
    assert (shown["COUPON_SECRET_FILE"], shown["COUPON_SECRET"]) == ("data/secret", "")
    assert ran.stderr == f"the secret file '{tmp_path}/data/secret' is missing: the first start makes a new one\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", READING)
def test_missing_files_are_named_and_not_made(command, tmp_path):
    ran = coupon(tmp_path, WITH_SECRET, command)
    assert ran.returncode == 2
    assert "'data' is missing" in ran.stderr
    assert "coupon init" in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("role", ["queue", "store"])
def test_a_lost_queue_or_store_is_not_taken_for_an_empty_one(role, tmp_path):
    deployment = Deployment(embedded(tmp_path))
    deployment.coupon("init")
    for file in tmp_path.glob(f"{role}.db*"):
        file.unlink()
    ran = deployment.coupon("export", check=False)
    assert ran.returncode == 2
    assert f"COUPON_{role.upper()}_URL names" in ran.stderr
    assert not (tmp_path / f"{role}.db").exists()


def test_init_makes_what_the_others_need(tmp_path):
    assert coupon(tmp_path, FRESH, "init").returncode == 0
    assert coupon(tmp_path, FRESH, "export").returncode == 0
    assert coupon(tmp_path, FRESH, "settings").returncode == 0
