"""Probes: whether the process is alive, and whether it can take commands."""

from typing import Any

from flask import Response, request

from coupon.runtime.worker_registry import package_version
from coupon.web import request_io
from coupon.web.problems import Problem
from coupon.web.readiness import Findings
from coupon.web.services import Services

NEEDED_FOR_COMMANDS = ("queue", "store")


def livez(_services: Services) -> Response:
    """Alive"""
    return request_io.json_response({"status": "alive"})


def readyz(services: Services) -> Response:
    """Ready to take commands, and how each dependency does"""
    findings = services.readiness.get()
    if findings is None:
        raise Problem("UNAVAILABLE", "the dependencies have not answered yet")
    told = _told(findings, to_all=not services.access.is_known(request.environ))
    down = [name for name in NEEDED_FOR_COMMANDS if findings[name].status != "up"]
    if down:
        raise Problem("UNAVAILABLE", f"down: {', '.join(down)}", **told)
    return request_io.json_response({"status": "ready", **told})


def _told(findings: Findings, *, to_all: bool) -> dict[str, Any]:
    """The members of the response. Problems name topics and the configuration, so not all callers are told."""
    if to_all:
        return {"dependencies": {name: {"status": each.status, "ms": each.ms} for name, each in findings.items()}}
    dependencies = {name: finding._asdict() for name, finding in findings.items()}
    return {"version": package_version(), "dependencies": dependencies}
