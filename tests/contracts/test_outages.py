"""Our backends that have servers, while these are silent, slow or cut off."""

import secrets
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import pytest
from kafka import KafkaAdminClient
from pymongo import MongoClient

from backends.testing.asking import UNAVAILABLE
from backends.testing.links import Link, Links
from backends.testing.outages import OF_ANN, CacheOutages, QueueOutages, SearchOutages, StoreOutages
from backends.testing.search import held, settles
from backends.testing.timing import until_available
from coupon.ports.search import Query, Search
from tests.contracts.test_search import drop
from tests.services import Services

pytestmark = pytest.mark.services


class TestMemcachedOutages(CacheOutages):
    @pytest.fixture
    def server(self, services: Services) -> str:
        return services.memcached

    @pytest.fixture
    def url_at(self) -> Callable[[str], str]:
        prefix = secrets.token_hex(8)
        return lambda address: f"memcached://{address}?timeout_s=0.2&prefix={prefix}:"


class TestDynamoOutages(StoreOutages):
    @pytest.fixture
    def server(self, services: Services) -> str:
        return services.dynamodb

    @pytest.fixture
    def url_at(self, dynamodb_table: str) -> Callable[[str], str]:
        return lambda address: f"dynamodb://{address}?table={dynamodb_table}&timeout_s=1"


class SearchThatIsKilled(SearchOutages):
    """On a server of the tests, which they may kill."""

    name: ClassVar[str]

    @pytest.fixture
    def server(self, services: Services) -> str:
        address: str = getattr(services, self.name)
        return address

    def test_killed_and_started_again_the_same_object_goes_on(
        self, behind: Search, link: Link, url_at: Callable[[str], str], services: Services
    ) -> None:
        self.each(behind, url_at(link.address))  # so that several connections are broken
        with services.away(self.name):
            assert self.each(behind, url_at(link.address)) == dict.fromkeys(self.calls(behind), UNAVAILABLE)

        def lists() -> list[int]:
            return [len(until_available(partial(behind.find, Query(user), 100))) for user in ("ann", "bob")]

        assert lists() == [len(OF_ANN), 0]
        until_available(lambda: behind.index_many(held(OF_ANN, "bob", version=3)))
        settles(lists, [0, len(OF_ANN)])


@pytest.mark.usefixtures("elasticsearch_refreshes_soon", "rebuilds_begin_soon")
class TestElasticsearchOutages(SearchThatIsKilled):
    name = "elasticsearch"

    @pytest.fixture
    def url_at(self, services: Services) -> Iterator[Callable[[str], str]]:
        index = f"test-{secrets.token_hex(6)}"
        yield lambda address: f"elasticsearch://{address}?index={index}&timeout_s=1"
        drop(services.elasticsearch, index)


@pytest.mark.usefixtures("rebuilds_end_soon")
class TestMongoOutages(SearchThatIsKilled):
    name = "mongodb"

    @pytest.fixture
    def url_at(self, services: Services) -> Iterator[Callable[[str], str]]:
        database = f"test-{secrets.token_hex(6)}"
        yield lambda address: f"mongodb://{address}/{database}?timeout_s=1"
        with MongoClient(f"mongodb://{services.mongodb}") as client:
            client.drop_database(database)


class TestKafkaOutages(QueueOutages):
    """Kafka tells its clients where it is: those of the link are told the proxy's port."""

    @pytest.fixture
    def server(self, services: Services) -> str:
        return services.kafka

    @pytest.fixture
    def link(self, services: Services, links: Links) -> Link:
        return links.open("kafka", *services.kafka_link)

    @pytest.fixture
    def url_at(self, services: Services) -> Iterator[Callable[[str], str]]:
        prefix = f"test-{secrets.token_hex(4)}."
        yield lambda address: f"kafka://{address}?prefix={prefix}&partitions=4&timeout_s=1"
        admin = KafkaAdminClient(bootstrap_servers=services.kafka)
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(prefix)])
        admin.close()


class OnRedis:
    @pytest.fixture
    def server(self, services: Services) -> str:
        return services.redis


class TestRedisCacheOutages(OnRedis, CacheOutages):
    @pytest.fixture
    def url_at(self) -> Callable[[str], str]:
        prefix = secrets.token_hex(8)
        return lambda address: f"redis://{address}?timeout_s=0.2&prefix={prefix}:"


class TestRedisQueueOutages(OnRedis, QueueOutages):
    @pytest.fixture
    def url_at(self) -> Callable[[str], str]:
        prefix = secrets.token_hex(8)
        return lambda address: f"redis://{address}?timeout_s=0.8&partitions=4&prefix={prefix}:"
