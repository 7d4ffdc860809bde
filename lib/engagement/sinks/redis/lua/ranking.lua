-- Applies a publisher's changes to the public ranking, all at once.
-- KEYS: the ranking (points), all contents (minus units, so that ties rank by content id at the cut), what was seen.
-- ARGV[1]: msgpack map {full, expected, seen, size, ttl, gone, contents, units}. Answer: ok or stale.
local d = cmsgpack.unpack(ARGV[1])
local ARGS = 1000
local ranking, all, seen = KEYS[1], KEYS[2], KEYS[3]
local kinds = {[ranking] = 'zset', [all] = 'zset', [seen] = 'hash'}
for key, kind in pairs(kinds) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then
    if not d.full then return {'stale'} end
    redis.call('UNLINK', key)
  end
end
if not d.full then
  -- Another publisher, a lost key, an expiry: then only a full publish is right.
  local flat, found = redis.call('HGETALL', seen), 0
  for i = 1, #flat, 2 do
    if flat[i] == 'contents' then
      if tonumber(flat[i + 1]) ~= redis.call('ZCARD', all) then return {'stale'} end
    elseif d.expected[flat[i]] ~= flat[i + 1] then
      return {'stale'}
    else
      found = found + 1
    end
  end
  if found ~= d.shards then return {'stale'} end
end

local function chunked(command, key, values)
  for i = 1, #values, ARGS do redis.call(command, key, unpack(values, i, math.min(i + ARGS - 1, #values))) end
end

local function show(from, to) -- puts the contents of these ranks into the ranking
  local flat, points = redis.call('ZRANGE', all, from, to, 'WITHSCORES'), {}
  for i = 1, #flat, 2 do
    points[#points + 1] = -tonumber(flat[i + 1]) / 1e5
    points[#points + 1] = flat[i]
  end
  chunked('ZADD', ranking, points)
end

if d.full then redis.call('UNLINK', all) end
local scores = {}
for i = 1, #d.contents do
  scores[#scores + 1] = -d.units[i]
  scores[#scores + 1] = d.contents[i]
end
chunked('ZADD', all, scores)
chunked('ZREM', all, d.gone)
local contents, changes = redis.call('ZCARD', all), #d.contents + #d.gone
if d.full or 2 * changes > d.size then
  redis.call('UNLINK', ranking)
  show(0, d.size - 1)
else
  chunked('ZREM', ranking, d.gone)
  if contents <= d.size then
    local points = {}
    for i = 1, #d.contents do
      points[#points + 1] = d.units[i] / 1e5
      points[#points + 1] = d.contents[i]
    end
    chunked('ZADD', ranking, points)
  else
    chunked('ZREM', ranking, d.contents)
    for i = 1, #d.contents do
      local rank = redis.call('ZRANK', all, d.contents[i])
      if rank < d.size then redis.call('ZADD', ranking, d.units[i] / 1e5, d.contents[i]) end
    end
    -- A content that did not change itself moves by at most as many ranks as contents changed.
    show(math.max(0, d.size - changes), d.size - 1)
    chunked('ZREM', ranking, redis.call('ZRANGE', all, d.size, d.size + changes))
  end
  if redis.call('ZCARD', ranking) ~= math.min(contents, d.size) then -- somebody else wrote to it
    redis.call('UNLINK', ranking)
    show(0, d.size - 1)
  end
end
redis.call('DEL', seen)
for shard, position in pairs(d.seen) do redis.call('HSET', seen, shard, position) end
redis.call('HSET', seen, 'contents', contents)
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, d.ttl) end
return {'ok', contents}
