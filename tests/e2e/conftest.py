import pytest

from tests.e2e.deployment import Deployment, embedded, on_services


@pytest.fixture(params=["embedded", pytest.param("services", marks=pytest.mark.services)])
def environ(request, tmp_path):
    """The configuration of a service, on SQLite files and on the real servers."""
    if request.param == "embedded":
        return embedded(tmp_path)
    return on_services(tmp_path, request.getfixturevalue("services"))


@pytest.fixture
def service(environ):
    """A running service with one worker."""
    with Deployment(environ) as deployment:
        yield deployment
