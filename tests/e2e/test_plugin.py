"""A third party's backend, installed as a wheel, is chosen by its URL alone."""

import os
import subprocess
import sys
import zipfile

PLUGIN = """
from backends.cache.memory import MemoryCache

class LoudCache(MemoryCache):
    def get(self, key):
        print("loud", key)
        return super().get(key)
"""
PROGRAM = """
from coupon.ports.cache import Cache
from coupon.runtime.wiring import open_backend

cache = open_backend(Cache, "loud://")
assert cache.add("k", b"v", 10)
assert cache.get("k").value == b"v"
"""


def test_an_installed_plugin_is_chosen_by_its_scheme(tmp_path):
    wheel = tmp_path / "loud_cache-1.0-py3-none-any.whl"
    info = "loud_cache-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("loud_cache.py", PLUGIN)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: loud-cache\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", "[coupon.cache]\nloud = loud_cache:LoudCache\n")
        archive.writestr(f"{info}/RECORD", "")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", site, wheel]
    subprocess.run(pip, check=True, timeout=60)
    path = os.pathsep.join([str(site), os.getcwd()])
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "loud k\n"
