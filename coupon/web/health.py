"""Probes: whether the process is alive, and whether it can take commands."""

from flask import Response

from coupon.runtime.worker_registry import package_version
from coupon.web import request_io
from coupon.web.problems import Problem
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
    dependencies = {name: finding._asdict() for name, finding in findings.items()}
    down = [name for name in NEEDED_FOR_COMMANDS if findings[name].status != "up"]
    if down:
        raise Problem("UNAVAILABLE", f"down: {', '.join(down)}", version=package_version(), dependencies=dependencies)
    return request_io.json_response({"status": "ready", "version": package_version(), "dependencies": dependencies})
