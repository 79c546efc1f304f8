"""The examples of the OpenAPI document are what the application answers, and of the shape that the document says."""

import json

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from coupon.web.openapi import TEXT
from coupon.web.problems import Problem, members
from tests.web.story import FILE, examples, written

JSON, PROBLEM = "application/json", "application/problem+json"


@pytest.fixture
def document(api):
    return api.get("/openapi.json").json


def responses(document):
    """(status, media type, its object) of each response of each operation."""
    for path, views in document["paths"].items():
        for method, view in views.items():
            if method != "parameters":
                for status, response in view["responses"].items():
                    for media_type, content in response["content"].items():
                        yield f"{method} {path} {status}", int(status), media_type, content


def bodies(content):
    return [each["value"] for each in content["examples"].values()] if "examples" in content else [content["example"]]


def test_the_examples_are_what_the_application_answers():
    """Where it answers otherwise on purpose: python -m tests.web.story writes them."""
    assert FILE.read_text() == written(examples())


def test_the_document_is_one_of_openapi_3_1(document):
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_a_fault_of_the_document_would_be_found(document):
    del document["paths"]["/v1/coupons"]["post"]["responses"]["202"]["description"]
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) != []


def test_each_body_has_an_example_of_its_own_shape(document):
    components = {"components": document["components"]}
    for name, status, media_type, content in responses(document):
        fits = jsonschema_rs.validator_for(content["schema"] | components)
        for body in bodies(content):
            fits.validate(body)
            assert media_type == (PROBLEM if status >= 400 else TEXT if isinstance(body, str) else JSON), name
            assert media_type in (JSON, TEXT) or body["status"] == status, name


def test_each_request_and_path_has_an_example_that_fits(document):
    for path, views in document["paths"].items():
        for parameter in views.get("parameters", []):
            assert parameter["in"] != "path" or parameter["example"], path
        for view in (view for method, view in views.items() if method != "parameters"):
            assert view["description"], path
            if "requestBody" in view:
                content = view["requestBody"]["content"][JSON]
                schema = content["schema"] | {"components": document["components"]}
                jsonschema_rs.validator_for(schema).validate(content["example"])


def test_each_problem_is_shown_under_its_own_status_with_its_own_words(document):
    for name, status, media_type, content in responses(document):
        for code, shown in content.get("examples", {}).items():
            plain = members(Problem(code))
            assert media_type == PROBLEM
            assert {member: shown["value"][member] for member in plain} == plain, name
            assert plain["status"] == status


def test_nothing_is_made_up_by_the_page_from_a_schema(document):
    """What Swagger UI shows where a document has no example: ``stringstring``, ``additionalProp1``."""
    assert [name for name, _, _, content in responses(document) if not {"example", "examples"} & content.keys()] == []


def test_every_address_of_a_file_of_examples_is_served(document):
    served = {f"{method.upper()} {path}" for path, views in document["paths"].items() for method in views}
    told = {name.replace("<text:", "{").replace("<", "{").replace(">", "}") for name in json.loads(FILE.read_text())}
    assert told == {name for name in served if not name.startswith("PARAMETERS")}
