"""Our backends that have servers, while these are silent, slow or cut off."""

import secrets
from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaAdminClient

from backends.testing.links import Link, Links
from backends.testing.outages import CacheOutages, QueueOutages, SearchOutages, StoreOutages
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


@pytest.mark.usefixtures("elasticsearch_refreshes_soon", "rebuilds_begin_soon")
class TestElasticsearchOutages(SearchOutages):
    @pytest.fixture
    def server(self, services: Services) -> str:
        return services.elasticsearch

    @pytest.fixture
    def url_at(self, services: Services) -> Iterator[Callable[[str], str]]:
        index = f"test-{secrets.token_hex(6)}"
        yield lambda address: f"elasticsearch://{address}?index={index}&timeout_s=1"
        drop(services.elasticsearch, index)


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
