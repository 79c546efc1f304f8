"""Take out each guard of the protocol, one at a time, and see that the simulation finds it:
``python -m tests.proof.mutants [--seeds 3000] [NAME…]``.

A guard that no promise of the simulation needs names the test that misses it.
It keeps an entry of the cache right a little longer, or its case is too rare.

A check that cannot fail proves nothing. Each guard is taken out of a copy of the source, by its very text.
It is an error when the source does not hold that text exactly once.
Exit status 1 when a guard's absence was not found.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.proof.mutants import MUTANTS
from tests.proof.mutants.mutant import Mutant

ROOT = Path(__file__).parents[3]
COPIED = ("coupon", "backends", "conf", "tests", "setup.cfg")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3_000, help="so many are tried")
    parser.add_argument("guards", nargs="*", help="only these")
    arguments = parser.parse_args()
    survivors = 0
    for mutant in MUTANTS:
        if not arguments.guards or mutant.guard in arguments.guards:
            found = found_by(mutant, arguments.seeds)
            print(f"{mutant.guard:<45} {found or 'NOT FOUND'}", flush=True)
            survivors += found is None
    return 1 if survivors else 0


def found_by(mutant: Mutant, seeds: int) -> str | None:
    """By which promise, and after how many seeds, the simulation finds it, or by which test; None when it does not."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(folder, name))
        file = Path(folder, mutant.file)
        source = file.read_text()
        assert source.count(mutant.text) == 1, f"{mutant.file} holds {source.count(mutant.text)} times: {mutant.text}"
        file.write_text(source.replace(mutant.text, mutant.other))
        command = [sys.executable, "-m", "tests.proof.simulation", "--stop", "--seeds", str(seeds)]
        if mutant.test:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", mutant.test]
        environ = {**os.environ, "PYTHONPATH": folder}
        ran = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if mutant.test:
        assert ran.returncode in (0, 1), ran.stdout + ran.stderr
        return mutant.test if ran.returncode else None
    last = re.search(r"([\d,]+) seeds, (\d+) broke a promise(.*)", ran.stdout)
    assert last, ran.stdout + ran.stderr
    return f"seed {int(last[1].replace(',', '')) - 1}:{last[3]}" if last[2] != "0" else None


if __name__ == "__main__":
    sys.exit(main())
