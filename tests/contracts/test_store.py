"""The three stores stand what every store has to stand."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from zlib import crc32

import pytest

from backends.store.dynamodb_model import bind, item
from backends.store.dynamodb_records import KEY, SHARD, SHARDS, SUFFIX
from backends.store.memory import MemoryStore
from backends.testing.coupons import after, some_coupons
from backends.testing.spoilt_records import SpoiltRecords
from backends.testing.store import StoreContract, opened
from backends.testing.store_processes import StoreAcrossProcesses
from backends.testing.store_records import StoreRecordsContract
from coupon.domain.errors import ConfigurationError, Unreadable
from coupon.domain.model import Coupon
from coupon.domain.serialization import encode_coupon
from coupon.ports.store import Store
from tests.services import Services


class TestMemoryStore(StoreContract, StoreRecordsContract):
    @pytest.fixture
    def url(self) -> str:
        return "memory://"

    @pytest.fixture
    def gone_url(self) -> str:
        return "memory://"

    @pytest.fixture
    def gone(self) -> Store:
        """It has no server: it is gone when it was closed."""
        store = opened("memory://")
        store.close()
        return store

    @pytest.fixture
    def spoil(self, store: MemoryStore) -> Callable[[str], None]:
        return store.spoil


class TestSqliteStore(StoreContract, StoreRecordsContract, SpoiltRecords, StoreAcrossProcesses):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/data/store.db"

    @pytest.fixture
    def gone_url(self) -> str:
        return "sqlite:////dev/null/store.db?timeout_s=1"

    @pytest.fixture
    def write(self, tmp_path: Path) -> Callable[[str, str, object], None]:
        """Sets a column of a coupon's row, past the store."""

        def set_column(code: str, column: str, value: object) -> None:
            with closing(sqlite3.connect(tmp_path / "data" / "store.db")) as file:
                expression = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
                file.execute(f"UPDATE coupons SET {column} = {expression} WHERE code = ?", (value, code))
                file.commit()

        return set_column

    @pytest.fixture
    def spoil(self, write: Callable[[str, str, object], None]) -> Callable[[str], None]:
        return lambda code: write(code, "body", "[]")

    @pytest.fixture
    def spoil_record(self, tmp_path: Path) -> Callable[[str, str], None]:
        def spoil(kind: str, key: str) -> None:
            with closing(sqlite3.connect(tmp_path / "data" / "store.db", isolation_level=None)) as file:
                file.execute("UPDATE records SET body = CAST(x'ff' AS TEXT) WHERE kind = ? AND key = ?", (kind, key))

        return spoil

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("history", ""),
            ("history", [["o", "burn", 1, None, "a"]]),
            ("history", after("used").history * 34),
            ("rejections", {}),
            ("valid_from", "yesterday"),
            ("expire_at", 5),
            ("created_at", -1),
            ("modified_at", 10**17),
            ("issued_at", 10**17),
            ("creation_size", -1),
            ("user_id", "u" * 129),
            ("version", 0),
            ("version", 10**16),
            ("revision", -1),
            ("revision", 2),
            ("code", "A" * 19),
            ("settled", -1),
            ("chunk_complete", 1),
        ],
    )
    def test_each_field_is_checked(
        self, store: Store, write: Callable[[str, str, object], None], field: str, value: object
    ) -> None:
        bad, good = after("created"), after("created")
        store.save_many([bad, good])
        write(bad.code, "body", encode_coupon(bad._replace(**{field: value})).decode())
        self.is_unreadable(store, bad, good)

    @pytest.mark.parametrize("body", ["", "[" * 100_000, "{}", b"\xff\xfe", b'["\xff"]'])
    def test_a_body_that_is_none_hides_no_other(
        self, store: Store, write: Callable[[str, str, object], None], body: str | bytes
    ) -> None:
        bad, good = after("created"), after("created")
        store.save_many([bad, good])
        write(bad.code, "body", body)
        self.is_unreadable(store, bad, good)

    def is_unreadable(self, store: Store, bad: Coupon, good: Coupon) -> None:
        with pytest.raises(Unreadable) as unreadable:
            store.get_many([bad.code, good.code])
        assert (unreadable.value.reasons.keys(), unreadable.value.found) == ({bad.code}, {good.code: good})
        page = store.scan(10)
        assert (page.unreadable.keys(), page.coupons) == ({bad.code}, [good])

    @pytest.mark.parametrize("code", ["short", "a" * 19, "Ä" * 19, "Z" * 20, b"\xff" * 19])
    @pytest.mark.parametrize("limit", [1, 2, 10])
    def test_a_row_whose_code_is_none_does_not_end_a_scan(
        self, store: Store, write: Callable[[str, str, object], None], code: str | bytes, limit: int
    ) -> None:
        coupons = some_coupons(4)
        store.save_many(coupons)
        write(coupons[0].code, "code", code)
        found, unreadable, page = [], [], store.scan(limit)
        while True:
            found += page.coupons
            unreadable += page.unreadable
            if page.next is None:
                break
            page = store.scan(limit, page.next)
        assert sorted(found) == sorted(coupons[1:])
        assert len(unreadable) == 1

    def test_a_wrong_synchronous_is_an_error_of_configuration(self) -> None:
        with pytest.raises(ConfigurationError, match="neither normal nor full"):
            opened("sqlite:///x.db?synchronous=off")


@pytest.mark.services
class TestDynamoStore(StoreContract, StoreRecordsContract, SpoiltRecords, StoreAcrossProcesses):
    @pytest.fixture
    def url(self, services: Services, dynamodb_table: str) -> str:
        return f"dynamodb://{services.dynamodb}?table={dynamodb_table}&timeout_s=10"

    @pytest.fixture
    def gone_url(self) -> str:
        return "dynamodb://127.0.0.1:9?timeout_s=1"

    @pytest.fixture
    def put_into(self, services: Services, dynamodb_table: str) -> Iterator[Callable[[str, dict[str, object]], None]]:
        """Puts an item into a table, past the store."""
        keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        model = bind(dynamodb_table, host=f"http://{services.dynamodb}", region="local", **keys)
        client = model._get_connection().connection.client
        yield lambda table, item: client.put_item(TableName=table, Item=item)
        client.close()

    @pytest.fixture
    def put(
        self, put_into: Callable[[str, dict[str, object]], None], dynamodb_table: str
    ) -> Callable[[dict[str, object]], None]:
        """Puts a coupon's item."""
        return partial(put_into, dynamodb_table)

    @pytest.fixture
    def spoil_record(
        self, put_into: Callable[[str, dict[str, object]], None], dynamodb_table: str
    ) -> Callable[[str, str], None]:
        def spoil(kind: str, key: str) -> None:
            shard = f"{kind}/{crc32(key.encode()) % SHARDS:02d}"
            put_into(dynamodb_table + SUFFIX, {SHARD: {"S": shard}, KEY: {"S": key}})

        return spoil

    @pytest.fixture
    def spoil(self, put: Callable[[dict[str, object]], None]) -> Callable[[str], None]:
        return lambda code: put({"couponCode": {"S": code}})

    @pytest.mark.parametrize(
        "changes",
        [
            {"history": {"S": "[]"}},
            {"history": {"N": "5"}},
            {"history": {"S": "[" * 100_000}},
            {"rejections": {"S": "{}"}},
            {"rejections": {"N": "5"}},
            {"validFrom": {"S": "yesterday"}},
            {"expireAt": {"N": "5"}},
            {"createdAt": {"N": "1.5"}},
            {"modifiedAt": {"N": "100000000000000000"}},
            {"issuedAt": {"S": "5"}},
            {"userId": {"N": "5"}},
            {"userId": {"S": "u" * 129}},
            {"batch": {"BOOL": True}},
            {"chunkComplete": {"N": "1"}},
            {"version": {"N": "0"}},
            {"version": {"N": "10000000000000000"}},
            {"revision": {"S": "1"}},
        ],
    )
    def test_each_attribute_is_checked(
        self, store: Store, put: Callable[[dict[str, object]], None], changes: dict[str, object]
    ) -> None:
        bad, good = after("created"), after("created")
        store.save_many([good])
        put(item(bad) | changes)
        for codes in ([bad.code, good.code], [bad.code, good.code, *(coupon.code for coupon in some_coupons(200))]):
            with pytest.raises(Unreadable) as unreadable:
                store.get_many(codes)
            assert (unreadable.value.reasons.keys(), unreadable.value.found) == ({bad.code}, {good.code: good})
        page = store.scan(10)
        assert (page.unreadable.keys(), page.coupons) == ({bad.code}, [good])

    @pytest.mark.parametrize("code", ["short", "a" * 19, "Ä" * 19])
    def test_an_item_whose_code_is_none_does_not_end_a_scan(
        self, store: Store, put: Callable[[dict[str, object]], None], code: str
    ) -> None:
        coupons = some_coupons(3)
        store.save_many(coupons)
        put(item(coupons[0]) | {"couponCode": {"S": code}})
        found, unreadable, page = [], [], store.scan(1)
        while page.next is not None:
            page = store.scan(1, page.next)
            found += page.coupons
            unreadable += page.unreadable
        first = store.scan(1)
        assert sorted([*first.coupons, *found]) == sorted(coupons)
        assert [*first.unreadable, *unreadable] == [code]
