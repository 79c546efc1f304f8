"""Each private name of a driver that we use is still there, and no use is added unnoticed.

When a row fails, read the page or the module that it names before anything is mended. A name that the driver has no
more may have been the place of a fault that is fixed by now.
"""

import pytest

from tests.drivers.private_names import ROOT, exists, uses

LINES_MAX = 21
"""With a name that begins with an underscore."""
UNDOCUMENTED_LINES_MAX = 89
"""With such a name, or with one of a module that its driver does not document."""

KAFKA_FIXES = "backends/queue/kafka_fixes.py"
JOINS = "docs/decisions/0007-a-repaired-kafka-coordinator.md"
COMMITS = "docs/decisions/0009-group-commit-to-kafka.md"
POSITIONS = "docs/decisions/0015-what-waits-waits-by-positions.md"
CACHE = "backends/cache/memcached_client.py"
STORE = "backends/store/dynamodb_connection.py"
REDIS = "backends/redis_connections.py"
PARKED = "coupon/web/parked_connections.py"
CONNECTION = "coupon/web/connection.py"
CHUNKED = "coupon/web/chunked_body.py"
WORKER = "coupon/web/gunicorn_worker.py"

NAMES = {
    "KafkaNetClient": ("kafka.net:KafkaNetClient.close", KAFKA_FIXES),
    "NetworkSelector": ("kafka.net:NetworkSelector", KAFKA_FIXES),
    "close": ("kafka.net:NetworkSelector.close", KAFKA_FIXES),
    "KafkaNetSocket": ("kafka.net:KafkaNetSocket.sock_connect", KAFKA_FIXES),
    "KafkaConnectionManager": ("kafka.net.manager:KafkaConnectionManager.get_connection", KAFKA_FIXES),
    "get_connection": ("kafka.net.manager:KafkaConnectionManager.get_connection", KAFKA_FIXES),
    "KafkaSSLTransport": ("kafka.net.transport:KafkaSSLTransport.handshake", KAFKA_FIXES),
    "KafkaTCPTransport": ("kafka.net.transport:KafkaTCPTransport", KAFKA_FIXES),
    "_sock": ("kafka.net.transport:KafkaTCPTransport._sock", KAFKA_FIXES),
    "_net": ("kafka.net.transport:KafkaTCPTransport._net", KAFKA_FIXES),
    "_sock_recv": ("kafka.net.transport:KafkaSSLTransport._sock_recv", KAFKA_FIXES),
    "wait_write": ("kafka.net:NetworkSelector.wait_write", KAFKA_FIXES),
    "ConsumerCoordinator": ("kafka.coordinator.consumer:ConsumerCoordinator", JOINS),
    "_coordinator": ("kafka:KafkaConsumer._coordinator", JOINS),
    "_do_join_and_sync_async": ("kafka.coordinator.consumer:ConsumerCoordinator._do_join_and_sync_async", JOINS),
    "_on_join_complete_async": ("kafka.coordinator.consumer:ConsumerCoordinator._on_join_complete_async", JOINS),
    "Fetcher": ("kafka.consumer.fetcher:Fetcher", JOINS),
    "_fetcher": ("kafka:KafkaConsumer._fetcher", JOINS),
    "_next_partition_records": ("kafka.consumer.fetcher:Fetcher._next_partition_records", JOINS),
    "fetched_records": ("kafka.consumer.fetcher:Fetcher.fetched_records", JOINS),
    "ProduceRequest": ("kafka.protocol.producer:ProduceRequest.TopicProduceData.PartitionProduceData", COMMITS),
    "MemoryRecordsBuilder": ("kafka.record.memory_records:MemoryRecordsBuilder.append", COMMITS),
    "FetchRequest": ("kafka.protocol.consumer:FetchRequest.FetchTopic.FetchPartition", POSITIONS),
    "MemoryRecords": ("kafka.record.memory_records:MemoryRecords.next_batch", POSITIONS),
    "ListOffsetsRequest": (
        "kafka.protocol.consumer:ListOffsetsRequest.ListOffsetsTopic",
        POSITIONS,
    ),
    "OffsetFetchRequest": ("kafka.protocol.consumer:OffsetFetchRequest.OffsetFetchRequestTopic", POSITIONS),
    "FindCoordinatorRequest": ("kafka.protocol.metadata:FindCoordinatorRequest", POSITIONS),
    "_Host": ("memcache:_Host", CACHE),
    "_Error": ("memcache:_Error", CACHE),
    "_get_socket": ("memcache:_Host._get_socket", CACHE),
    "expect": ("memcache:_Host.expect", CACHE),
    "mark_dead": ("memcache:_Host.mark_dead", CACHE),
    "readline": ("memcache:_Host.readline", CACHE),
    "_get_connection": ("pynamodb.models:Model._get_connection", STORE),
    "_connect": ("redis.connection:Connection._connect", REDIS),
    "CHUNK_EXT_RE": ("gunicorn.http.body:CHUNK_EXT_RE", CHUNKED),
    "ChunkedReader": ("gunicorn.http.body:ChunkedReader", CONNECTION),
    "InvalidHeader": ("gunicorn.http.errors:InvalidHeader", CONNECTION),
    "LimitRequestHeaders": ("gunicorn.http.errors:LimitRequestHeaders", CONNECTION),
    "NoMoreData": ("gunicorn.http.errors:NoMoreData", WORKER),
    "Request": ("gunicorn.http.message:Request", CONNECTION),
    "Unreader": ("gunicorn.http.unreader:Unreader", CONNECTION),
    "read": ("gunicorn.http.unreader:Unreader.read", CONNECTION),
    "unread": ("gunicorn.http.unreader:Unreader.unread", CONNECTION),
    "_expected_100_continue": ("gunicorn.http.message:Request._expected_100_continue", CONNECTION),
    "get_thread_pool": ("gunicorn.workers.gthread:ThreadWorker.get_thread_pool", WORKER),
    "ThreadWorker": ("gunicorn.workers.gthread:ThreadWorker", PARKED),
    "accept": ("gunicorn.workers.gthread:ThreadWorker.accept", PARKED),
    "check_config": ("gunicorn.workers.gthread:ThreadWorker.check_config", PARKED),
    "finish_request": ("gunicorn.workers.gthread:ThreadWorker.finish_request", PARKED),
    "init_process": ("gunicorn.workers.gthread:ThreadWorker.init_process", PARKED),
    "load_wsgi": ("gunicorn.workers.gthread:ThreadWorker.load_wsgi", PARKED),
    "murder_keepalived": ("gunicorn.workers.gthread:ThreadWorker.murder_keepalived", PARKED),
    "murder_pending": ("gunicorn.workers.gthread:ThreadWorker.murder_pending", PARKED),
    "_cap_keepalive": ("gunicorn.workers.gthread:ThreadWorker._cap_keepalive", PARKED),
    "handle": ("gunicorn.workers.gthread:ThreadWorker.handle", WORKER),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_driver_still_has(name: str) -> None:
    target, page = NAMES[name]
    assert (ROOT / page).exists()
    assert exists(target), f"the driver changed: read {page}"


def test_each_private_name_in_use_has_a_row_here() -> None:
    found = {name: sorted(lines) for name, lines in uses().items() if name not in NAMES}
    assert found == {}


def test_each_row_is_of_a_name_in_use() -> None:
    assert NAMES.keys() - uses().keys() == set()


def test_lines_with_private_names_do_not_become_more() -> None:
    """Whoever makes them fewer lowers the limits."""
    found = uses()
    every = {line for lines in found.values() for line in lines}
    private = {line for name, lines in found.items() if name.startswith("_") for line in lines}
    assert len(private) <= LINES_MAX
    assert len(every) <= UNDOCUMENTED_LINES_MAX
