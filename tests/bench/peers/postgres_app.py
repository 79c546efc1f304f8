"""A peer: coupons in PostgreSQL, behind Flask. Each command is one statement, which is one transaction."""

import os
import uuid
from datetime import date

import psycopg
from flask import Flask, jsonify, request
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from tests.bench.peers.shared import new_code, refused, wanted

app = Flask("peer")
pool = ConnectionPool(
    os.environ["PEER_DSN"],
    min_size=16,
    max_size=16,
    open=False,
    timeout=5,
    kwargs={"autocommit": True, "row_factory": dict_row},
)
DAY_OK = "valid_from <= current_date AND expire_at >= current_date"

ISSUE = """
WITH changed AS (
    UPDATE coupon SET user_id = %(user)s, issued_at = now()
    WHERE code = %(code)s AND user_id IS NULL AND used_at IS NULL AND expire_at >= current_date
    RETURNING code)
INSERT INTO history (code, kind, user_id, caller, operation)
SELECT code, 'issue', %(user)s, %(caller)s, %(op)s FROM changed RETURNING code"""
USE = f"""
WITH changed AS (
    UPDATE coupon SET used_at = now() WHERE code = %(code)s AND user_id = %(user)s AND used_at IS NULL AND {DAY_OK}
    RETURNING code, user_id)
INSERT INTO history (code, kind, user_id, caller, operation)
SELECT code, 'use', user_id, %(caller)s, %(op)s FROM changed RETURNING code"""
CANCEL = """
WITH old AS (SELECT code, user_id FROM coupon WHERE code = %(code)s FOR UPDATE),
changed AS (
    UPDATE coupon SET user_id = NULL, issued_at = NULL FROM old
    WHERE coupon.code = old.code AND coupon.user_id IS NOT NULL AND used_at IS NULL RETURNING coupon.code, old.user_id)
INSERT INTO history (code, kind, user_id, caller, operation)
SELECT code, 'cancel', user_id, %(caller)s, %(op)s FROM changed RETURNING code"""
BEFORE = "SELECT code, kind, user_id FROM history WHERE caller = %s AND operation = %s"
ROW = "code, campaign, user_id, issued_at, used_at, valid_from, expire_at, created_at"
HISTORY = """
SELECT coalesce(json_agg(json_build_object('at', at, 'kind', kind, 'user', user_id, 'operation', operation) ORDER BY id)
    , '[]') FROM history h WHERE h.code = c.code"""
READ = f"SELECT {ROW}, ({HISTORY}) AS history FROM coupon c WHERE code = %s"
CODES = "SELECT code FROM coupon WHERE batch = %s AND code > %s ORDER BY code LIMIT %s"
LIST = f"SELECT {ROW} FROM coupon WHERE user_id = %s AND code > %s ORDER BY code LIMIT %s"


def connection():
    if pool.closed:
        pool.open()
    return pool.connection()


def caller():
    return request.headers.get("X-Caller", "anonymous"), request.headers.get("Idempotency-Key") or uuid.uuid4().hex


def show(row):
    return {k: (v.isoformat() if hasattr(v, "isoformat") else v) for k, v in row.items()}


def command(sql, kind, body, code):
    who, operation = caller()
    told = {"user": body.get("userId"), "code": code, "caller": who, "op": operation}
    with connection() as db:
        row = db.execute(sql, told).fetchone()
        if row is None:  # nothing changed: done before with this key, or refused
            before = db.execute(BEFORE, (who, operation)).fetchone()
            if before is not None:
                same = (
                    before["kind"] == kind
                    and code in (None, before["code"])
                    and (kind != "issue" or before["user_id"] == body["userId"])
                )
                return (
                    jsonify(operationId=operation, couponCode=before["code"], status="applied")
                    if same
                    else refused(422, "IDEMPOTENCY_KEY_REUSED")
                )
            if code is None:
                return refused(409, "SOLD_OUT")
            now = db.execute(f"SELECT {ROW} FROM coupon WHERE code = %s", (code,)).fetchone()
            if now is None:
                return refused(404, "NOT_FOUND")
            return refused(409, reason(kind, now, body))
    return jsonify(operationId=operation, couponCode=row["code"], status="applied")


def reason(kind, now, body):
    if now["used_at"] is not None:
        return "ALREADY_USED"
    if kind == "issue":
        return "ALREADY_ISSUED" if now["user_id"] is not None else "EXPIRED"
    if now["user_id"] is None:
        return "NOT_ISSUED"
    return "NOT_HOLDER" if kind == "use" and now["user_id"] != body.get("userId") else "NOT_VALID_TODAY"


@app.put("/coupons/issue")
def issue():
    body = wanted("couponCode", "userId")
    return refused(422, "INVALID") if body is None else command(ISSUE, "issue", body, body["couponCode"])


@app.put("/coupons/use")
def use():
    body = wanted("couponCode", "userId")
    return refused(422, "INVALID") if body is None else command(USE, "use", body, body["couponCode"])


@app.put("/coupons/cancel")
def cancel():
    body = wanted("couponCode")
    return refused(422, "INVALID") if body is None else command(CANCEL, "cancel", body, body["couponCode"])


@app.post("/coupons")
def create():
    body, (who, operation) = request.get_json(), caller()
    amount, campaign = int(body["amount"]), body.get("campaign")
    first, last = date.fromisoformat(body["validFrom"]), date.fromisoformat(body["expireAt"])
    if not 0 < amount <= 1_000_000 or last < first:
        return refused(422, "INVALID")
    key = f"{who}/{operation}"
    with connection() as db, db.transaction():
        made = db.execute(
            "INSERT INTO batch (operation, caller, campaign, amount, valid_from, expire_at)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING 1",
            (key, who, campaign, amount, first, last),
        ).fetchone()
        if made:
            with db.cursor().copy("COPY coupon (code, batch, campaign, valid_from, expire_at) FROM STDIN") as copy:
                days = f"{first}\t{last}\n"
                where = f"\t{key}\t{campaign or chr(92) + 'N'}\t{days}"
                for at in range(0, amount, 1000):
                    copy.write("".join(new_code() + where for _ in range(min(1000, amount - at))))
    return jsonify(operationId=operation, amount=amount, status="applied"), 201


@app.get("/batches/<path:key>/codes")
def codes(key):
    after, limit = request.args.get("after", ""), min(int(request.args.get("limit", 1000)), 10_000)
    with connection() as db:
        rows = db.execute(CODES, (key, after, limit)).fetchall()
    return jsonify(codes=[row["code"] for row in rows])


@app.get("/coupons/<code>")
def read(code):
    with connection() as db:
        row = db.execute(READ, (code,)).fetchone()
    return refused(404, "NOT_FOUND") if row is None else jsonify(show(row))


@app.get("/users/<path:user>/coupons")
def held(user):
    after, limit = request.args.get("after", ""), min(int(request.args.get("limit", 100)), 1000)
    with connection() as db:
        rows = db.execute(LIST, (user, after, limit + 1)).fetchall()
    more = len(rows) > limit
    rows = rows[:limit]
    return jsonify(items=[show(row) for row in rows], next=rows[-1]["code"] if more else None)


@app.errorhandler(psycopg.OperationalError)
@app.errorhandler(psycopg.InterfaceError)
@app.errorhandler(PoolTimeout)
def away(error):
    return refused(503, "UNAVAILABLE")
