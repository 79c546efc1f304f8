"""The OpenAPI document, made by flask-smorest from what the views say of themselves."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, TypeVar

from flask import Flask, request
from flask_smorest import Api, Blueprint
from marshmallow import Schema

from coupon.web import problems, schemas
from coupon.web.fields import CODE_PATTERN
from coupon.web.request_io import KEY_HEADER, WAIT_MAX_S, check_parameters

View = TypeVar("View", bound=Callable[..., Any])
Answers = Mapping[int, tuple[type[Schema], str]]

DESCRIPTION = (
    "What each problem's code means: [problems](/docs/problems). "
    "A query parameter that an address does not name is 422 `INVALID_FIELD`, and so is one that is given twice; "
    "the probes alone ignore them."
)
RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
LOCATION = {"Location": {"schema": {"type": "string", "format": "uri-reference"}, "description": "The operation."}}
CODE_PARAMETER = {
    "in": "path",
    "name": "code",
    "schema": {"type": "string", "pattern": CODE_PATTERN},
    "description": "With or without dashes, in any case.",
}


def header_parameters(caller_header: str) -> list[dict[str, Any]]:
    """The headers of a command."""
    return [
        {
            "in": "header",
            "name": caller_header,
            "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
            "description": "Who asks, as the gateway in front says. Without it: `anonymous`.",
        },
        {
            "in": "header",
            "name": KEY_HEADER,
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
            "description": "The same command sent again with the same key is applied once.",
        },
        {
            "in": "header",
            "name": "Prefer",
            "schema": {"type": "string", "example": "wait=5"},
            "description": f"`wait=N`: answer when the outcome is known, after N seconds (≤ {WAIT_MAX_S}) in any case.",
        },
    ]


class Routes(Blueprint):  # type: ignore[misc]
    """Views, each served and described in one place."""

    def serve(
        self,
        method: str,
        path: str,
        answers: Answers,
        refusals: Sequence[str] = (),
        body: Schema | None = None,
        query: type[Schema] | None = None,
        headers: Mapping[str, Any] | None = None,
        parameters: Sequence[Mapping[str, Any]] = (),
        endpoint: str | None = None,
        any_query: bool = False,
    ) -> Callable[[View], View]:
        """Route to a view, and say what it takes and answers. It runs bare: flask-smorest's decorators for arguments
        and answers would cost half a Flask request more. A request with a parameter that ``query`` does not have is
        refused, unless ``any_query`` is fine."""
        operation: dict[str, Any] = {"responses": _answers(answers, headers or {}) | _refusals(refusals)}
        if body is not None:
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
        if query is not None:
            operation["parameters"] = [{"in": "query", "schema": query}]

        def decorate(view: View) -> View:
            served = view if any_query else _of_known_parameters(view, query)
            served.__dict__["_apidoc"] = {"manual_doc": operation}
            self.route(path, methods=[method], parameters=list(parameters), endpoint=endpoint)(served)
            return view

        return decorate


def _of_known_parameters(view: View, query: type[Schema] | None) -> Callable[..., Any]:
    """The view, for requests whose parameters are of the schema, each once."""
    fields = () if query is None else query().fields.values()
    known = frozenset(str(field.data_key) for field in fields)

    @wraps(view)
    def checked(*arguments: Any, **named: Any) -> Any:
        if request.environ["QUERY_STRING"]:
            check_parameters(known)
        return view(*arguments, **named)

    return checked


def _answers(answers: Answers, headers: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The answers that tell of success, by status."""
    return {
        status: {"description": told, "headers": headers, "content": {"application/json": {"schema": schema}}}
        for status, (schema, told) in answers.items()
    }


def _refusals(codes: Sequence[str]) -> dict[int, dict[str, Any]]:
    """The answers that tell of these problems, by status."""
    by_status: dict[int, list[str]] = {}
    for code in (*codes, "INTERNAL_ERROR"):
        by_status.setdefault(problems.TITLES[code][0], []).append(f"`{code}`")
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    described: dict[int, dict[str, Any]] = {
        status: {"description": ", ".join(told), "content": content} for status, told in by_status.items()
    }
    for status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS} & described.keys():
        described[status]["headers"] = RETRY_AFTER
    return dict(sorted(described.items()))


def publish(app: Flask, blueprints: Sequence[Routes]) -> None:
    """Serve the blueprints, and the document of them at ``/openapi.json``."""
    app.config.update(
        API_TITLE="Coupon",
        API_VERSION=version("coupon"),
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
        API_SPEC_OPTIONS={"info": {"description": DESCRIPTION}},
    )
    api = _Api(app)
    for blueprint in blueprints:
        api.register_blueprint(blueprint)


class _Api(Api):  # type: ignore[misc]
    """Errors are described view by view, and answered by ``problems``; pages are our own."""

    ERROR_SCHEMA = schemas.Problem
    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        problems.register(self._app)

    def _register_pagination_header(self) -> None:
        pass
