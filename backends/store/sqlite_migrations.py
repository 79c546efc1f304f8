"""What a store's SQLite file went through: see ``SqliteFile``."""

from sqlite3 import Connection

from backends.sqlite import columns

# A row that is no coupon stays one, and stays to be seen: what is no JSON becomes a text in its body.
_HISTORY = "CASE WHEN json_valid({0}) THEN json({0}) ELSE {0} END"


def bodies(connection: Connection) -> None:
    """Version 0 had a column a field, the oldest files none for ``settled``; 0 there is of a coupon that was written
    before commands had numbers: its version is meant."""
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
