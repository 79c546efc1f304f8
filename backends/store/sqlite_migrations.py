"""The migrations of the store's SQLite file: see ``SqliteFile``."""

from sqlite3 import Connection

from backends.sqlite import columns

# A row that cannot be decoded stays so, and stays readable for an operator: what is no JSON becomes a text in its body.
_HISTORY = "CASE WHEN json_valid({0}) THEN json({0}) ELSE {0} END"


def bodies(connection: Connection) -> None:
    """Version 0 had a column for each field; the oldest files had none for ``settled``. A coupon that is older than
    numbers has 0 there, which means its version."""
    settled = "settled" if "settled" in columns(connection, "coupons") else "0"
    connection.execute("ALTER TABLE coupons RENAME TO coupons_0")
    connection.execute(
        "CREATE TABLE coupons (code TEXT PRIMARY KEY, revision INTEGER NOT NULL, body TEXT NOT NULL) STRICT"
    )
    connection.execute(
        f"""
        INSERT INTO coupons SELECT code, revision, json_array(
            code, valid_from, expire_at, created_at, modified_at, batch, user_id, issued_at, used_at, version, revision,
            {_HISTORY.format("history")}, {_HISTORY.format("rejections")},
            CASE {settled} WHEN 0 THEN version ELSE {settled} END
        ) FROM coupons_0 ORDER BY coupons_0.rowid
        """  # noqa: S608 - made of names in this file
    )
    connection.execute("DROP TABLE coupons_0")


MIGRATIONS = (bodies,)
