"""The wheel, installed into an empty environment, is a service: in an empty folder, by its commands alone."""

import os
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.e2e.deployment import ROOT, eventually, free_port

PACKAGED = ("coupon", "backends", "conf", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.fixture(scope="module")
def coupon(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command. Its environment has Coupon from the wheel, and what it requires from ours."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PACKAGED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        options = {"symlinks": True, "ignore": shutil.ignore_patterns("__pycache__")} if copy is shutil.copytree else {}
        copy(ROOT / name, source / name, **options)
    build = [*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run(build, check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (packages / "requirements.pth").write_text("\n".join(site.getsitepackages()))
    install = ["install", "--no-deps", "--no-index", "--ignore-installed", wheel]
    subprocess.run([*PIP, "--python", python, *install], check=True, timeout=120)
    return str(python.with_name("coupon"))


@pytest.fixture
def environ() -> dict[str, str]:
    """Without what points at the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COUPON_", "PYTHON"))}
    return {**kept, "PORT": str(free_port()), "WEB_CONCURRENCY": "1"}


@pytest.fixture
def service(coupon: str, environ: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """Its address. The worker is started first, and waits for what ``coupon init`` makes."""
    with (tmp_path / "log").open("wb") as log:
        started = [
            subprocess.Popen([coupon, command], cwd=tmp_path, env=environ, stdout=log, stderr=log)
            for command in ("worker", "web")
        ]
        subprocess.run([coupon, "init"], cwd=tmp_path, env=environ, check=True, capture_output=True, timeout=60)
        yield f"http://127.0.0.1:{environ['PORT']}"
        for process in started:
            process.terminate()
        assert [process.wait(30) for process in started] == [0, 0], (tmp_path / "log").read_text()


def test_a_coupon_is_created_issued_used_and_listed(service, tmp_path):
    eventually(lambda: requests.get(f"{service}/livez", timeout=5).ok, 30, requests.ConnectionError)
    wait = {"Prefer": "wait=20"}
    body = {"amount": 1, "validFrom": "2020-01-01", "expireAt": "2099-12-31"}
    created = requests.post(f"{service}/v1/coupons", json=body, headers=wait, timeout=30).json()
    assert created["status"] == "applied", created
    coupon = {"couponCode": created["couponCodes"][0], "userId": "ann"}
    for command in ("issue", "use"):
        done = requests.put(f"{service}/v1/coupons/{command}", json=coupon, headers=wait, timeout=30).json()
        assert done["status"] == "applied", done
    eventually(lambda: len(requests.get(f"{service}/v1/users/ann/coupons", timeout=5).json()["items"]) == 1, 15)
    assert "web will be at" in (tmp_path / "log").read_text()
    assert {file.name for file in tmp_path.iterdir()} == {"data", "log"}


@pytest.mark.parametrize(
    ("command", "changes", "sentence"),
    [
        ("web --wait 0", {}, "'data/secret' is missing"),
        ("worker --wait 0", {}, "'data/secret' is missing"),
        ("web", {"PORT": "x"}, "PORT='x' is not a whole number from 1 to 65535"),
        ("web", {"HOST": "192.0.2.1"}, "Another port: PORT=8081 coupon web"),
        ("worker", {"COUPON_SECRET": "x" * 16, "COUPON_SECRET_FILE": "", "COUPON_STORE_URL": "no://"}, "scheme 'no'"),
        ("settings", {"COUPON_CONF": "none.env"}, "COUPON_CONF='none.env' is not a file"),
    ],
)
def test_what_is_wrong_is_one_sentence(coupon, environ, tmp_path, command, changes, sentence):
    environ["COUPON_QUEUE_URL"] = "memory://"  # whose file nobody has to make
    ran = subprocess.run(
        [coupon, *command.split()], cwd=tmp_path, env={**environ, **changes}, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
    assert sentence in ran.stderr
    assert list(tmp_path.iterdir()) == []
