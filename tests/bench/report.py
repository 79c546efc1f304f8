"""What is printed of figures, and what is said of the machine that they were taken on."""

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.figure import Figure
from tests.e2e.deployment import ROOT

LIBRARIES = (
    "flask",
    "gunicorn",
    "marshmallow",
    "pynamodb",
    "kafka-python",
    "elasticsearch",
    "python-memcached",
)
TOLERATED = 1.25
"""So much worse than the baseline a ratio may be: machines differ, and their neighbours."""
HEAD = "| figure | ours | yardstick | | ratio | to reach | |\n| --- | ---: | --- | ---: | ---: | ---: | --- |"


def machine() -> dict[str, Any]:
    """Hardware, versions, and how busy it is."""
    return {
        "commit": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "machine": {"cpus": os.cpu_count(), "processor": _processor(), "load": round(os.getloadavg()[0], 2)},
        "versions": {
            "python": platform.python_version(),
            "java": _output("java", "--version").split("\n")[0],
            "memcached": _output("memcached", "-V").removeprefix("memcached "),
            **{name: version(name) for name in LIBRARIES},
        },
    }


def markdown(figures: Iterable[Figure]) -> str:
    """A table, a line a figure: medians, with the least and the most in brackets."""
    return "\n".join([HEAD, *map(_row, figures)])


def worsened(figures: Iterable[Figure], baseline: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each ratio (or value without a yardstick) that is worse than the baseline's by more than is
    tolerated, or not there."""
    before = {known["figure"]: known["ratio"] or known["ours"]["median"] for known in baseline}
    sentences = []
    for figure in figures:
        if figure.name not in before:
            sentences.append(f"{figure.name}: not in the baseline")
            continue
        worse = figure.value / before[figure.name] if figure.at_most else before[figure.name] / figure.value
        if worse > TOLERATED:
            sentences.append(
                f"{figure.name}: {figure.value:.3f}, was {before[figure.name]:.3f}: {worse:.2f} times worse"
            )
    return sentences


def _row(figure: Figure) -> str:
    against = figure.against if figure.of_record is None else [figure.of_record]
    ratio = f"{figure.value:.2f}×" if figure.yardstick else ""
    verdict = {True: "reached", False: "**not reached**", None: ""}[figure.is_reached]
    ours = f"{_spread(figure.ours)} {figure.unit}"
    return f"| {figure.name} | {ours} | {figure.yardstick} | {_spread(against)} | {ratio} | {figure.goal} | {verdict} |"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return _number(values[0])
    return f"{_number(median(values))} ({_number(min(values))}–{_number(max(values))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout.strip()
    except OSError:
        return "not there"
