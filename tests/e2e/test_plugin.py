"""The plugin of docs/backends.md is installed in a folder of its own, chosen by its URL, and passes the suites."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^( *)```\w+\n(?P<code> *# (?P<file>\S+\.\w+)\n.*?)^\1```$", re.MULTILINE | re.DOTALL)
PROGRAM = """
from coupon.ports.cache import Cache
from coupon.runtime.wiring import open_backend

cache = open_backend(Cache, "filecache:///cache.db")
assert cache.add("k", b"v", 10)
print(type(cache).__module__, cache.get("k").value)
"""
A_FAILURE = """
from backends.testing.cache_rivals import value_of
from my_plugin.filecache import FileCache

def test_that_fails(tmp_path):
    value_of(FileCache(str(tmp_path / "cache.db"), 1.0), "missing")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the page describes it, and with the plugin installed under ``site``."""
    folder = tmp_path_factory.mktemp("plugin")
    for found in BLOCK.finditer((ROOT / "docs" / "backends.md").read_text()):
        file = folder / found["file"]
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(found["code"]))
    (folder / "my_plugin" / "__init__.py").touch()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", "site", "."], cwd=folder, check=True, timeout=120)
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_installed_plugin_is_chosen_by_its_scheme(folder):
    ran = run(folder, "-c", PROGRAM)
    assert ran.stdout == "my_plugin.filecache b'v'\n", ran.stderr


def test_it_passes_the_suites_and_a_failed_assertion_of_theirs_shows_its_values(folder):
    (folder / "tests" / "test_fails.py").write_text(A_FAILURE)
    ran = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert re.search(r"^1 failed, 1\d\d passed", ran.stdout, re.MULTILINE), ran.stdout
    assert "assert None is not None" in ran.stdout
