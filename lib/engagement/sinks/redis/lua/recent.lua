-- Appends newest events to one content's stream; an entry that is there (a replay) is skipped.
-- KEYS[1]: the stream. ARGV: partition, maximum length, seconds to live, then per entry: its number, fields, values...
-- (each entry is msgpack: {number, field, value, ...}). A content that moved to another partition starts a new stream,
-- since the numbers of two partitions do not compare.
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then redis.call('DEL', KEYS[1]) end
local newest, added = 0, 0
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if top then
  local at, partition = string.match(top[1], '(%d+)-(%d+)')
  newest = tonumber(at)
  if partition ~= ARGV[1] then
    redis.call('DEL', KEYS[1])
    newest = 0
  end
end
for i = 4, #ARGV do
  local fields = cmsgpack.unpack(ARGV[i])
  local at = table.remove(fields, 1)
  if at > newest then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], string.format('%.0f-%s', at, ARGV[1]), unpack(fields))
    newest, added = at, added + 1
  end
end
if added > 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return added
