"""The scripts of the Redis queue: each is atomic, and refuses a topic that is no longer the one that the caller knows.

Every partition is a stream whose ids are ``0-1``, ``0-2`` and so on. Redis counts them (``0-*``), and goes on when the
oldest are deleted. The offset of a message is its number minus one. Its fields are ``k`` (key), ``v`` (value)
and ``t`` (the queue's time when it was published).

Keys come in an order that each script tells; the first is always the hash of topics. The first arguments are always the
number of topics, and each topic with its identity (``redis.py``).
"""

_ALLOWED = "#!lua flags=allow-oom"
"""The first line of a script that runs while memory is full, too: else what is in the queue could not be applied."""
_CHECK = """
local at = 1 + 2 * tonumber(ARGV[1])
for i = 2, at, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then return redis.error_reply('NOTOPIC ' .. ARGV[i]) end
end
local LAST = '0-18446744073709551615'
local function number(id) return tonumber(string.match(id, '%-(%d+)$')) end
local function id(number) return '0-' .. string.format('%.0f', number) end
local function field(entry, name)
  for i = 1, #entry[2], 2 do if entry[2][i] == name then return entry[2][i + 1] end end
  return ''
end
local function ends(stream)
  if redis.call('EXISTS', stream) == 0 then return 0, 0 end
  local info, found = redis.call('XINFO', 'STREAM', stream), {}
  for i = 1, #info, 2 do found[info[i]] = info[i + 1] end
  local last = number(found['last-generated-id'])
  if found['length'] == 0 then return last, last end
  return number(found['first-entry'][1]) - 1, last
end
"""
PUBLISH = f"""{_CHECK}
-- KEYS: topics, time, a stream for each message; ARGV: each message's key and value
local now = redis.call('GET', KEYS[2]) or '0'
for i = 3, #KEYS do
  local from = at + 2 * (i - 3)
  redis.call('XADD', KEYS[i], '0-*', 'k', ARGV[from + 1], 'v', ARGV[from + 2], 't', now)
end
"""
ENDS = f"""{_CHECK}
-- KEYS: topics, streams; returns the first and the next offset of each stream
local found = {{}}
for i = 2, #KEYS do
  local first, next = ends(KEYS[i])
  found[#found + 1] = first
  found[#found + 1] = next
end
return found
"""
TAKE = f"""{_CHECK}
-- KEYS: topics, streams; ARGV: most messages, most bytes, the offset at which each stream begins
-- A message that is larger than what is left of the bytes comes too, as the last one, so that it blocks nothing.
local left, room, found = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), {{}}
for i = 2, #KEYS do
  local fair, begin, step = math.ceil(left / (#KEYS - i + 1)), tonumber(ARGV[at + i + 1]), 1
  local mine = {{}}
  while fair > #mine and room > 0 do
    local before, count = room, math.min(fair - #mine, step)
    local entries = redis.call('XRANGE', KEYS[i], id(begin + 1), LAST, 'COUNT', count)
    if #entries == 0 then break end
    for _, entry in ipairs(entries) do
      if room <= 0 then break end
      mine[#mine + 1] = entry
      room = room - #field(entry, 'v')
      begin = number(entry[1])
    end
    -- no more than fit into what is left, if they are as large as these: what is read and not taken costs as much
    step = math.max(1, math.min(step * 2, 64, math.floor(room * #entries / math.max(1, before - room))))
  end
  left = left - #mine
  found[i - 1] = mine
end
return found
"""
JOIN = f"""{_ALLOWED}{_CHECK}
-- KEYS: topics, then the offsets and the stream of each partition; ARGV: the group
-- Returns the group's next offset of each partition. It holds up the retention from then on. An offset beyond the end
-- is of a stream that was lost.
local found = {{}}
for i = 2, #KEYS, 2 do
  local first, next = ends(KEYS[i + 1])
  redis.call('HSETNX', KEYS[i], ARGV[at + 1], id(first):sub(3))
  local stored = tonumber(redis.call('HGET', KEYS[i], ARGV[at + 1]))
  found[#found + 1] = (stored < first or stored > next) and first or stored
end
return found
"""
COMMIT = f"""{_ALLOWED}{_CHECK}
-- KEYS: topics, the group, time, then the offsets and the stream of each partition
-- ARGV: the group, the member, the seconds that messages are kept, the most to delete, then for each partition the
-- field of its owner and the next offset. Returns the partition that is another member's, and nothing is changed.
local group, member, before = ARGV[at + 1], ARGV[at + 2], tonumber(redis.call('GET', KEYS[3]) or '0') - ARGV[at + 3]
for i = at + 5, #ARGV, 2 do
  if redis.call('HGET', KEYS[2], ARGV[i]) ~= member then return ARGV[i] end
end
local function prune(offsets, stream)
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not oldest or (tonumber(field(oldest, 't')) or 0) >= before then return end
  local least, keep, left, step = math.huge, nil, tonumber(ARGV[at + 4]), 1
  for _, offset in ipairs(redis.call('HVALS', offsets)) do least = math.min(least, tonumber(offset)) end
  while left > 0 do -- in steps: what is read and kept costs as much as what is deleted
    local count = math.min(left, step)
    local entries = redis.call('XRANGE', stream, keep and id(keep) or '-', id(least), 'COUNT', count)
    for _, entry in ipairs(entries) do
      if (tonumber(field(entry, 't')) or 0) >= before then left = 0 break end
      keep, left = number(entry[1]) + 1, left - 1
    end
    if #entries < count then break end
    step = math.min(step * 2, 64)
  end
  if keep then redis.call('XTRIM', stream, 'MINID', '=', id(keep)) end
end
for i = at + 5, #ARGV, 2 do
  local offsets = 4 + (i - at - 5)
  redis.call('HSET', KEYS[offsets], group, ARGV[i + 1])
  prune(KEYS[offsets], KEYS[offsets + 1])
end
return ''
"""
SHARE = f"""{_ALLOWED}
-- KEYS: the group; ARGV: its version as it was read, whether its members or owners change (0, 1), how many fields to
-- delete, these, then fields and values to set. Returns 0, and nothing is changed, when the version is another one.
local last = 3 + tonumber(ARGV[3])
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
for i = 4, last do redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = last + 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HINCRBY', KEYS[1], 'version', ARGV[2])
return 1
"""
RENEW = f"""{_ALLOWED}
-- KEYS: the group; ARGV: the beat, then the member's fields. It does nothing when the member was expelled.
for i = 2, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then redis.call('HSET', KEYS[1], ARGV[i], ARGV[1]) end
end
"""
LEAVE = f"""{_ALLOWED}
-- KEYS: the group; ARGV: the member, its fields
for i = 2, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
local state = redis.call('HGETALL', KEYS[1])
for i = 1, #state, 2 do
  if state[i + 1] == ARGV[1] then redis.call('HDEL', KEYS[1], state[i]) end
end
redis.call('HINCRBY', KEYS[1], 'version', 1)
"""
ADVANCE = f"""{_ALLOWED}
-- KEYS: time; ARGV: the time that a member sees
if tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[1]) or '-1') then redis.call('SET', KEYS[1], ARGV[1]) end
"""
