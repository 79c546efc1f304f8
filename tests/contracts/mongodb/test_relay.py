"""TLS, a password and a replica set in the URL, by a relay: FerretDB 1.24 as a package has none of them."""

from contextlib import closing

import pytest

from backends.testing.coupons import some_coupons
from backends.testing.search import CALLS, held, holds, opened
from coupon.domain.errors import BackendUnavailable
from tests.contracts.mongodb.relay import relay_to

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("rebuilds_end_soon")]


def works(url):
    coupons = some_coupons(3)
    with closing(opened(url)) as search:
        search.create()
        search.index_many(coupons)
        search.index_many(held(coupons, "ann"))
        holds(search, held(coupons, "ann"))


def is_unavailable(url, match):
    with closing(opened(url)) as search:
        for call in CALLS.values():
            with pytest.raises(BackendUnavailable, match=match):
                call(search)


def test_over_tls_it_trusts_the_authorities_that_the_operator_names(services, database, certificate, monkeypatch):
    path, tls = certificate
    with relay_to(services.mongodb, tls=tls) as relay:
        url = f"mongodb://127.0.0.1:{relay.port}/{database.name}?tls=true"
        is_unavailable(f"{url}&timeout_s=0.5", "CERTIFICATE_VERIFY_FAILED")
        with closing(opened(f"{url}&ca={path}&timeout_s=10")) as search:
            search.create()
            search.ping()
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        works(f"{url}&timeout_s=10")


def test_name_and_password_are_those_of_the_url(services, database):
    with relay_to(services.mongodb, password="p@ss/word") as relay:
        where = f"127.0.0.1:{relay.port}/{database.name}"
        works(f"mongodb://ann:p%40ss%2Fword@{where}?auth_source=users&timeout_s=10")
        assert "insert" in relay.seen
        relay.seen.clear()
        is_unavailable(f"mongodb://ann:wrong@{where}?auth_source=users&timeout_s=2", "Authentication failed")
        is_unavailable(f"mongodb://ann:p%40ss%2Fword@{where}?timeout_s=2", "Authentication failed")
        is_unavailable(f"mongodb://{where}?timeout_s=2", "log in")
        assert "insert" not in relay.seen


def test_of_a_replica_set_whose_other_members_are_away_the_primary_serves(services, database):
    with relay_to(services.mongodb, replica_set=True) as relay:
        works(f"mongodb://127.0.0.1:9,127.0.0.1:{relay.port}/{database.name}?timeout_s=10")
