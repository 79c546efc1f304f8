"""The examples of the OpenAPI document: requests, and what the service answered.

``tests/web/story.py`` writes ``examples.json``: it sends the requests to an application, and a test does so again.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

_ALL = json.loads((files("coupon.web") / "examples.json").read_text("utf-8"))


class Example(NamedTuple):
    """Of one address: a request, and bodies of responses."""

    path: Mapping[str, str]
    """The parameters in the path."""
    request: Mapping[str, Any] | None
    answers: Mapping[str, Any]
    """By status."""
    problems: Mapping[str, Any]
    """By code; one without a ``detail`` need not be here."""


def example(method: str, path: str) -> Example:
    """That of the address; an empty one where nobody has written any, which a test finds."""
    found = _ALL.get(f"{method} {path}", {})
    return Example(found.get("path", {}), found.get("request"), found.get("answers", {}), found.get("problems", {}))
