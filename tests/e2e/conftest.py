import pytest

from tests.e2e.deployment import Deployment, embedded, on_services


@pytest.fixture
def cli(tmp_path):
    """The CLI of a service that was set up; its workers are ended with it."""
    deployment = Deployment(embedded(tmp_path))
    deployment.coupon("init")
    yield deployment
    deployment.__exit__()


@pytest.fixture(scope="module", params=["embedded", pytest.param("services", marks=pytest.mark.services)])
def service(request, tmp_path_factory):
    """A running service with one worker, on SQLite files and on the real servers. A test leaves it running."""
    folder = tmp_path_factory.mktemp("service")
    if request.param == "embedded":
        environ = embedded(folder)
    else:
        environ = on_services(folder, request.getfixturevalue("services"), cache_timeout_s=2)
    with Deployment(environ) as deployment:
        yield deployment
