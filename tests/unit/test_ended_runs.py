"""A run of the tests that is ended from outside leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import subprocess, time
import pytest

@pytest.fixture
def server():
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()

def test_that_takes_long(server):
    print("server", server.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_what_the_tests_started_ends_with_them(tmp_path, number):
    (tmp_path / "test_long.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-s", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", os.devnull]
    with subprocess.Popen(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as run:
        assert run.stdout is not None
        (pid,) = next(found for line in run.stdout if (found := re.findall(r"server (\d+)", line)))
        run.send_signal(number)
        run.stdout.read()
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert not Path(f"/proc/{pid}").exists()
