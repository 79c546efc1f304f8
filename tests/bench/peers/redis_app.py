"""A peer: coupons in Redis (AOF), behind Flask. Each command is one Lua script."""

import os
import uuid
from datetime import UTC, date, datetime

import redis
from flask import Flask, jsonify, request
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.bench.peers.shared import new_code, refused, wanted

app = Flask("peer")
db = redis.Redis(
    port=int(os.environ["PEER_PORT"]), decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0)
)

# c:{code} hash; h:{code} list of history; u:{user} set of codes; f:{campaign} list of the free ones, in order;
# w:{campaign} hash user -> code (who has one); o:{caller}/{operation} what was answered.
# KEYS are not declared one by one (a code is picked inside): one node, not a cluster.
HEAD = """
local op = 'o:' .. ARGV[1]
local before = redis.call('GET', op)
if before then return {'before', before} end
"""
TAIL = """
local function done(code, kind, user, keep)
  redis.call('RPUSH', 'h:' .. code, cjson.encode({now, kind, user, ARGV[1]}))
  if keep then redis.call('SET', op, kind .. ' ' .. code .. ' ' .. user, 'EX', 86400) end
  return {'ok', code}
end
"""
ISSUE = db.register_script(
    HEAD
    + """
local code, user, now, today, keep = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'
"""
    + TAIL
    + """
local c = redis.call('HMGET', 'c:' .. code, 'user', 'used', 'to', 'campaign')
if not c[3] then return {'NOT_FOUND'} end
if c[2] then return {'ALREADY_USED'} end
if c[1] then return {'ALREADY_ISSUED'} end
if c[3] < today then return {'EXPIRED'} end
redis.call('HSET', 'c:' .. code, 'user', user, 'issued', now)
redis.call('SADD', 'u:' .. user, code)
return done(code, 'issue', user, keep)
"""
)
USE = db.register_script(
    HEAD
    + """
local code, user, now, today, keep = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'
"""
    + TAIL
    + """
local c = redis.call('HMGET', 'c:' .. code, 'user', 'used', 'from', 'to')
if not c[4] then return {'NOT_FOUND'} end
if c[2] then return {'ALREADY_USED'} end
if not c[1] then return {'NOT_ISSUED'} end
if c[1] ~= user then return {'NOT_HOLDER'} end
if c[3] > today or c[4] < today then return {'NOT_VALID_TODAY'} end
redis.call('HSET', 'c:' .. code, 'used', now)
return done(code, 'use', user, keep)
"""
)
CANCEL = db.register_script(
    HEAD
    + """
local code, _, now, today, keep = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'
"""
    + TAIL
    + """
local c = redis.call('HMGET', 'c:' .. code, 'user', 'used', 'to', 'campaign')
if not c[3] then return {'NOT_FOUND'} end
if c[2] then return {'ALREADY_USED'} end
if not c[1] then return {'NOT_ISSUED'} end
redis.call('HDEL', 'c:' .. code, 'user', 'issued')
redis.call('SREM', 'u:' .. c[1], code)
if c[4] then
  redis.call('HDEL', 'w:' .. c[4], c[1])
  redis.call('RPUSH', 'f:' .. c[4], code)
end
return done(code, 'cancel', c[1], keep)
"""
)
CREATE = db.register_script("""
local campaign, first, last, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
for i = 5, #ARGV do
  local key = 'c:' .. ARGV[i]
  if redis.call('EXISTS', key) == 0 then
    if campaign == '' then
      redis.call('HSET', key, 'from', first, 'to', last, 'created', now)
    else
      redis.call('HSET', key, 'from', first, 'to', last, 'created', now, 'campaign', campaign)
      redis.call('RPUSH', 'f:' .. campaign, ARGV[i])
    end
  end
end
""")


def now():
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def today():
    return datetime.now(UTC).date().isoformat()


def command(script, kind, what, user):
    key = request.headers.get("Idempotency-Key")
    operation = key or uuid.uuid4().hex
    told = f"{request.headers.get('X-Caller', 'anonymous')}/{operation}"
    found = script(args=[told, what, user, now(), today(), "1" if key else "0"])
    if found[0] == "ok":
        return jsonify(operationId=operation, couponCode=found[1], status="applied")
    if found[0] == "before":
        was, code, whose = found[1].split(" ", 2)
        if was == kind and (whose == user or kind == "cancel"):
            return jsonify(operationId=operation, couponCode=code, status="applied")
        return refused(422, "IDEMPOTENCY_KEY_REUSED")
    return refused(404 if found[0] == "NOT_FOUND" else 409, found[0])


@app.put("/coupons/issue")
def issue():
    body = wanted("couponCode", "userId")
    return refused(422, "INVALID") if body is None else command(ISSUE, "issue", body["couponCode"], body["userId"])


@app.put("/coupons/use")
def use():
    body = wanted("couponCode", "userId")
    return refused(422, "INVALID") if body is None else command(USE, "use", body["couponCode"], body["userId"])


@app.put("/coupons/cancel")
def cancel():
    body = wanted("couponCode")
    return refused(422, "INVALID") if body is None else command(CANCEL, "cancel", body["couponCode"], "")


@app.post("/coupons")
def create():
    """Chunks of 1,000; the codes of a creation are kept first, so that a retry makes the same."""
    body, operation = request.get_json(), request.headers.get("Idempotency-Key") or uuid.uuid4().hex
    amount, campaign = int(body["amount"]), body.get("campaign") or ""
    first, last = date.fromisoformat(body["validFrom"]), date.fromisoformat(body["expireAt"])
    if not 0 < amount <= 1_000_000 or last < first:
        return refused(422, "INVALID")
    key = f"b:{request.headers.get('X-Caller', 'anonymous')}/{operation}"
    for at in range(0, amount, 1000):
        size = min(1000, amount - at)
        codes = db.lrange(key, at, at + size - 1)
        if len(codes) < size:
            new = [new_code() for _ in range(size - len(codes))]
            db.rpush(key, *new)
            codes += new
        CREATE(args=[campaign, first.isoformat(), last.isoformat(), now(), *codes])
    return jsonify(operationId=operation, amount=amount, status="applied"), 201


def row(code, c):
    return {
        "code": code,
        "campaign": c.get("campaign"),
        "user_id": c.get("user"),
        "issued_at": c.get("issued"),
        "used_at": c.get("used"),
        "valid_from": c["from"],
        "expire_at": c["to"],
        "created_at": c["created"],
    }


@app.get("/batches/<path:key>/codes")
def codes(key):
    after, limit = int(request.args.get("after", "0")), min(int(request.args.get("limit", 1000)), 10_000)
    return jsonify(codes=db.lrange(f"b:{key}", after, after + limit - 1))


@app.get("/coupons/<code>")
def read(code):
    with db.pipeline(transaction=True) as p:
        p.hgetall(f"c:{code}")
        p.lrange(f"h:{code}", 0, -1)
        c, history = p.execute()
    if not c:
        return refused(404, "NOT_FOUND")
    import json

    return jsonify(row(code, c) | {"history": [json.loads(entry) for entry in history]})


HELD = db.register_script("""
local codes, found = redis.call('SMEMBERS', KEYS[1]), {}
table.sort(codes)
for i, code in ipairs(codes) do
  if code > ARGV[1] then
    found[#found + 1] = {code, redis.call('HGETALL', 'c:' .. code)}
    if #found > tonumber(ARGV[2]) then break end
  end
end
return found
""")


@app.get("/users/<path:user>/coupons")
def held(user):
    after, limit = request.args.get("after", ""), min(int(request.args.get("limit", 100)), 1000)
    found = HELD(keys=[f"u:{user}"], args=[after, limit])
    items = [row(code, dict(zip(c[::2], c[1::2], strict=True))) for code, c in found]
    more = len(items) > limit
    items = items[:limit]
    return jsonify(items=items, next=items[-1]["code"] if more else None)


@app.errorhandler(redis.exceptions.ConnectionError)
@app.errorhandler(redis.exceptions.TimeoutError)
@app.errorhandler(redis.exceptions.BusyLoadingError)
def away(error):
    return refused(503, "UNAVAILABLE")
