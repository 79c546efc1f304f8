"""A real Prometheus on loopback, with the files of ``conf/observability/``; intervals and addresses are the test's."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import requests

from tests.e2e.deployment import ROOT, eventually, free_port

FILES = ROOT / "conf" / "observability"
IS_THERE = shutil.which("prometheus") is not None and shutil.which("promtool") is not None
RATE_INTERVAL = "10s"
"""For Grafana's ``$__rate_interval``."""


class Prometheus:
    """``with Prometheus(folder, web, worker) as prometheus: prometheus.query(…)``; web and worker are the addresses."""

    def __init__(self, folder: Path, web: str, worker: str) -> None:
        self._folder, self._port = folder, free_port()
        self._url = f"http://127.0.0.1:{self._port}"
        config = (FILES / "prometheus.yml").read_text()
        config = config.replace("127.0.0.1:8080", web).replace("127.0.0.1:9101", worker).replace(": 15s", ": 500ms")
        rules = re.sub(r"^( +for:) .*$", r"\1 0s", (FILES / "rules.yml").read_text(), flags=re.MULTILINE)
        (folder / "prometheus.yml").write_text(config)
        (folder / "rules.yml").write_text(rules)

    def __enter__(self) -> "Prometheus":
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._folder}/prometheus.yml",
                    f"--storage.tsdb.path={self._folder}/tsdb",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )
        eventually(
            lambda: requests.get(f"{self._url}/-/ready", timeout=5).status_code == 200, 30, requests.ConnectionError
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The values of now: those of each series, but for NaN."""
        asked = expression.replace("$__rate_interval", RATE_INTERVAL)
        answer = requests.get(f"{self._url}/api/v1/query", params={"query": asked}, timeout=10).json()
        assert answer["status"] == "success", (asked, answer)
        return [series for series in answer["data"]["result"] if series["value"][1] != "NaN"]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = requests.get(f"{self._url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def panel_queries() -> dict[str, list[str]]:
    """The queries of each panel of the dashboard, by its title."""
    panels = json.loads((FILES / "coupon.json").read_text())["panels"]
    return {
        panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels if panel["type"] != "row"
    }
