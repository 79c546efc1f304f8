import pytest

from tests.e2e.deployment import Deployment, embedded, on_services


@pytest.fixture(params=["embedded", pytest.param("services", marks=pytest.mark.services)])
def environ(request, tmp_path):
    """The configuration of a service, on SQLite files and on the real servers."""
    if request.param == "embedded":
        return embedded(tmp_path)
    environ = on_services(tmp_path, request.getfixturevalue("services"))
    environ["COUPON_CACHE_URL"] += "&timeout_s=2"  # a busy machine is no outage, in which rivals are told 202 both
    return environ


@pytest.fixture
def service(environ):
    """A running service with one worker."""
    with Deployment(environ) as deployment:
        yield deployment
