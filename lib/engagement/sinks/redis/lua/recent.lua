-- Appends newest events to one content's stream; an entry that is there (a replay) is skipped.
-- KEYS[1]: the stream. ARGV: partition, maximum length, seconds to live, msgpack {field names, entries}, an entry being
-- {number, values, whether it is a replay}.
-- A content that moved to another partition starts a new stream, since the numbers of two partitions do not compare. A
-- replay lies in its letter's partition, whatever the content is now: it does not say that the content moved.
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then redis.call('DEL', KEYS[1]) end
local names, entries = unpack(cmsgpack.unpack(ARGV[4]))
local newest, added = 0, 0
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if top then
  local at, partition = string.match(top[1], '(%d+)-(%d+)')
  newest = tonumber(at)
  if partition ~= ARGV[1] then
    local moved = false
    for _, entry in ipairs(entries) do moved = moved or not entry[3] end
    if not moved then return 0 end
    redis.call('DEL', KEYS[1])
    newest = 0
  end
end
local pairs_of = {}
for _, entry in ipairs(entries) do
  local at, values = entry[1], entry[2]
  if at > newest then
    for i = 1, #names do pairs_of[2 * i - 1], pairs_of[2 * i] = names[i], values[i] end
    redis.call('XADD', KEYS[1], string.format('%.0f-%s', at, ARGV[1]), unpack(pairs_of))
    newest, added = at, added + 1
  end
end
if added > 0 then
  redis.call('XTRIM', KEYS[1], 'MAXLEN', '=', ARGV[2]) -- `~` would leave up to a node's entries more
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return added
