"""The units in conf/systemd/ are ones that systemd takes, and keep what is private to the service."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).parents[2] / "conf" / "systemd").iterdir())
PROGRAMS = "/opt/coupon/.venv/bin"
PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def verify(folder, units):
    """What systemd says of the units, whose programs are those of this environment."""
    for name, text in units.items():
        (folder / name).write_text(text.replace(PROGRAMS, str(Path(sys.executable).parent)))
    command = ["systemd-analyze", "verify", "--man=no", *(str(folder / name) for name in units)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return ran.returncode, ran.stdout + ran.stderr


def settings(text):
    return re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def units():
    return {unit.name: unit.read_text() for unit in UNITS}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_takes_the_units(tmp_path, units):
    assert sorted(units) == ["coupon-init.service", "coupon-web.service", "coupon-worker@.service"]
    assert verify(tmp_path, units) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_a_fault_would_be_found(tmp_path, units):
    units = units | {"coupon-web.service": units["coupon-web.service"].replace("Restart=", "Restrat=")}
    assert "Restrat" in verify(tmp_path, units)[1]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_unit_is_as_closed_as_the_others(unit, units):
    hardening = "# The same lines in all three units."
    of_all = {text[text.index(hardening) :] for text in units.values()}
    assert len(of_all) == 1
    told = dict(settings(units[unit.name]))
    assert told["UMask"] == "0077"
    assert told["StateDirectoryMode"] == "0700"
    assert told["EnvironmentFile"] == "/etc/coupon/coupon.env"
    assert told["NoNewPrivileges"] == "yes"
    assert "ProcSubset" not in told  # it would hide the name of the boot, by which a cache's entries live


def test_each_worker_has_a_heartbeat_of_its_own_and_all_wait_for_the_tables(units):
    assert "COUPON_HEARTBEAT_FILE=/var/lib/coupon/worker-%i.heartbeat" in units["coupon-worker@.service"]
    for name in ("coupon-web.service", "coupon-worker@.service"):
        assert "Requires=coupon-init.service" in units[name]
        assert re.search(r"^After=.*coupon-init\.service", units[name], re.MULTILINE)


def test_each_unit_is_named_in_the_operators_page():
    assert [unit.name for unit in UNITS if unit.stem not in PAGE] == []
