"""DynamoDB's store when its server is away, beside another one, and as other programs see its table."""

import socket
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import CredentialRetrievalError

from backends.store.dynamodb_model import CouponItem, bind, coupon, item
from backends.testing.coupons import a_full_coupon, after, some_coupons
from backends.testing.store import CALLS, opened
from backends.testing.timing import unavailable_within, until_available
from coupon.domain.errors import BackendUnavailable, ConfigurationError
from coupon.domain.model import Coupon
from tests.contracts.dynamodb_edge import edge_of
from tests.contracts.test_dynamodb_store import all_in
from tests.services import Services

pytestmark = pytest.mark.usefixtures("nothing_is_logged")


class TestServerAway:
    @pytest.mark.parametrize("method", CALLS)
    def test_silence_is_unavailable_in_time(self, method: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            store = opened(f"dynamodb://127.0.0.1:{silent.getsockname()[1]}?timeout_s=1")
            unavailable_within(2, lambda: CALLS[method](store))
            store.close()

    def test_a_large_save_into_silence_is_as_quick(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            store = opened(f"dynamodb://127.0.0.1:{silent.getsockname()[1]}?timeout_s=1")
            unavailable_within(2, lambda: store.save_many(some_coupons(2_000)))
            store.close()

    @pytest.mark.services
    def test_a_store_goes_on_when_its_server_was_killed_and_is_back(
        self, services: Services, dynamodb_table: str
    ) -> None:
        store = opened(f"dynamodb://{services.dynamodb}?table={dynamodb_table}&timeout_s=1")
        coupons = some_coupons(200)
        until_available(lambda: store.create())
        until_available(lambda: store.save_many(coupons[:100]))
        with services.away("dynamodb"):
            for call in CALLS.values():
                unavailable_within(2, lambda call=call: call(store))
        assert until_available(lambda: all_in(store, coupons[:100]))
        with services.silent("dynamodb"):
            for call in CALLS.values():
                unavailable_within(2, lambda call=call: call(store))
        conflicts = until_available(lambda: store.save_many(coupons))
        assert {c.code for c in coupons[:100]} <= conflicts
        assert all_in(store, coupons)
        store.close()


class TestCredentials:
    def test_without_credentials_a_store_is_unavailable_until_there_are_some(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store = opened("dynamodb://127.0.0.1:9?tls=true&timeout_s=1")
        for method in CALLS:
            with pytest.raises(BackendUnavailable, match="credentials"):
                CALLS[method](store)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        with pytest.raises(BackendUnavailable, match="refused"):
            store.ping()
        store.close()

    @pytest.mark.parametrize("method", CALLS)
    def test_credentials_that_cannot_be_renewed_are_unavailable(
        self, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        def expired(_: Credentials) -> None:
            raise CredentialRetrievalError(provider="a role", error_msg="no answer")

        monkeypatch.setattr(Credentials, "get_frozen_credentials", expired)
        store = opened("dynamodb://127.0.0.1:9?timeout_s=1")
        with pytest.raises(BackendUnavailable, match="a role"):
            CALLS[method](store)
        store.close()


@pytest.mark.services
class TestTwoStores:
    def test_two_urls_in_one_process_are_two_stores(self, services: Services, dynamodb_table: str) -> None:
        with edge_of(services.dynamodb) as one, edge_of(services.dynamodb) as other:
            first, second = (opened(f"dynamodb://{edge.address}?table={dynamodb_table}") for edge in (one, other))
            first.create()
            one.requests.clear()
            second.ping()
            assert (len(one.requests), len(other.requests)) == (0, 1)
            first.ping()
            first.close()
            second.ping()
            assert (len(one.requests), len(other.requests)) == (1, 2)
            second.close()

    def test_two_tables_in_one_process_are_two_stores(self, services: Services, dynamodb_table: str) -> None:
        urls = [f"dynamodb://{services.dynamodb}?table={name}" for name in (dynamodb_table, f"{dynamodb_table}-2")]
        there, missing = map(opened, urls)
        there.create()
        there.ping()
        with pytest.raises(BackendUnavailable, match=f"{dynamodb_table}-2"):
            missing.ping()
        there.close()
        missing.close()


class TestModel:
    @pytest.mark.parametrize("full", [after("created"), after("issued"), after("used"), a_full_coupon()])
    def test_the_fast_way_is_the_models_way(self, full: Coupon) -> None:
        read = CouponItem.from_raw_data(item(full))
        assert read.serialize() == item(full)
        assert coupon(read.serialize()) == full

    @pytest.mark.services
    def test_any_pynamodb_program_reads_the_table(self, services: Services, dynamodb_table: str) -> None:
        store = opened(f"dynamodb://{services.dynamodb}?table={dynamodb_table}")
        used = after("used")._replace(revision=1)
        store.create()
        store.save_many([used])
        store.close()
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
        model = bind(dynamodb_table, host=f"http://{services.dynamodb}", region="anywhere", **keys)
        row = model.get(used.code)
        assert (row.code, row.user_id, row.used, row.used_at) == (used.code, "ann", True, used.used_at)
        assert model.describe_table()["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        model._get_connection().connection.client.close()


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "complaint"),
        [
            ("dynamodb://", "neither a host nor a region"),
            ("dynamodb://a:1,b:2", "several hosts"),
            ("dynamodb://a?table=x", "'x' is not a name"),
            ("dynamodb://a?in_flight=0", "in_flight"),
            ("dynamodb://a:port", "port"),
        ],
    )
    def test_an_impossible_url_is_an_error_of_configuration(self, url: str, complaint: str) -> None:
        with pytest.raises(ConfigurationError, match=complaint):
            opened(url)
