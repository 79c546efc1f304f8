"""``Host``, and the headers of every response."""

import dataclasses

import pytest

from coupon.web import create_app
from tests.web.conftest import Api
from tests.web.problems import refused

ELSEWHERE = {"SERVER_NAME": "10.1.2.3"}


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:80", "[::1]:8080", "LOCALHOST"])
def test_on_loopback_names_of_loopback_are_ours(api, host):
    assert api.client.get("/v1/users/ann/coupons", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""])
def test_on_loopback_other_names_are_not(api, host):
    assert refused(api.client.get("/v1/users/ann/coupons", headers={"Host": host})) == (421, "UNKNOWN_HOST")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_may_use_any_name(api, path):
    assert api.client.get(path, headers={"Host": "10.0.0.1:8080"}).status_code == 200


def test_a_probe_by_another_name_is_told_no_problem(api):
    assert "problems" in api.get("/readyz").json["dependencies"]["worker"]
    other = api.client.get("/readyz", headers={"Host": "evil.example"})
    assert "problems" not in other.json["dependencies"]["worker"]
    assert "version" not in other.json


def test_elsewhere_any_name_is_ours_until_some_are_set(settings, backends):
    def status(hosts, host):
        api = Api(create_app(dataclasses.replace(settings, hosts=hosts), backends).test_client())
        return api.client.get("/v1/x", headers={"Host": host}, environ_overrides=ELSEWHERE).status_code

    assert status("", "coupon.example") == 404
    assert status("coupon.example,10.1.2.3", "coupon.example:443") == 404
    assert status("coupon.example,10.1.2.3", "10.1.2.3") == 404
    assert status("coupon.example", "evil.example") == 421
    assert status("coupon.example", "localhost") == 421


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/docs/problems", "/openapi.json", "/v1/x", "/nowhere"])
def test_every_response_has_its_safe_headers(api, path):
    headers = api.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert len(headers.getlist("Content-Security-Policy")) == 1


@pytest.mark.parametrize("path", ["/v1/users/ann/coupons", "/v1/coupons/AAAAAAAAAAAAAAAAAAA", "/v1/x"])
def test_no_cache_keeps_what_is_told_of_coupons(api, path):
    assert api.get(path).headers["Cache-Control"] == "no-store"


def test_the_docs_may_be_kept(api):
    assert "no-store" not in api.get("/docs/assets/swagger-ui.css").headers.get("Cache-Control", "")
