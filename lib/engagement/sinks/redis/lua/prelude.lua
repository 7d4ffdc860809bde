-- What every shard script shares: names, checks, the write-back cache and the sliding window.
-- Scripts read and compute first and write last, because Redis keeps the writes of a script that fails half-way.
local STEP = 10          -- seconds of event time per bucket and per step of the window
local NUMBERS = 9        -- units, events, play, pause, finish, click, duration_ms, pct_hundredths, pct_count
local STAMPS, FLOOR = 10, 11  -- in a bucket's entry: {offset_us, count, ...} of its newest events; newest one forgotten
local KEPT_STAMPS = 32   -- newest distinct times kept per content and bucket, so that a take-back still finds the last one
local ARGS = 1000        -- values per command: Lua's unpack stops at about 8,000
local CHANGED_SLACK = 10000  -- entries `changed` may hold beyond twice the contents before its tail is cut
local GENERATION_KEYS = {'fence', 'buckets', 'totals', 'changed', 'refused', 'replayed'}

local root = string.sub(KEYS[1], 1, -8)  -- KEYS[1] is `engagement:{p0}:current`
local base                               -- root .. generation .. ':'
local head = {}                          -- the fence hash, as strings
local window = {}                        -- first (inclusive) and last (exclusive) second, before and after this call
local cache, touched, gone = {}, {}, {}

local function wrong(key, want)
  local kind = redis.call('TYPE', key).ok
  return kind ~= 'none' and kind ~= want
end

local function number(n)
  return string.format('%.0f', n)
end

local function seconds(injected)
  if injected ~= '' then return tonumber(injected) end
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

local function microseconds()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1e6 + tonumber(t[2])
end

local function read_head(key)
  local flat, fields = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- Opens a generation ('' = the current one); returns nil, or the answer that ends the script.
local function open_shard(generation)
  if wrong(KEYS[1], 'string') then return {'wrongtype', KEYS[1]} end
  local current = redis.call('GET', KEYS[1])
  if generation == '' then
    if not current then return {'missing'} end
    generation = current
  end
  base = root .. generation .. ':'
  local kinds = {fence = 'hash', buckets = 'zset', totals = 'hash', changed = 'zset', refused = 'zset', replayed = 'zset'}
  for name, kind in pairs(kinds) do
    if wrong(base .. name, kind) then return {'wrongtype', base .. name} end
  end
  head = read_head(base .. 'fence')
  head.generation = generation
  if not (head.next and head.window_end and head.window_seconds and head.seq) then return {'missing'} end
  window.length = tonumber(head.window_seconds)
  window.last = tonumber(head.window_end)
  window.first = window.last - window.length
  return nil
end

local function bucket_key(bucket)
  return base .. 'bucket:' .. number(bucket)
end

local function unpacked(raw)
  if raw then return cmsgpack.unpack(raw) end
  return {0, 0, 0, 0, 0, 0, 0, 0, 0}
end

local function entries(key)
  if not cache[key] then
    cache[key], touched[key] = {}, {}
  end
  return cache[key]
end

local function entry(key, field)
  local known = entries(key)
  if not known[field] then known[field] = unpacked(redis.call('HGET', key, field)) end
  return known[field]
end

local function prefetch(key, fields)
  local known = entries(key)
  for i = 1, #fields, ARGS do
    local last = math.min(i + ARGS - 1, #fields)
    local values = redis.call('HMGET', key, unpack(fields, i, last))
    for j = i, last do
      if not known[fields[j]] then known[fields[j]] = unpacked(values[j - i + 1]) end
    end
  end
end

local function read_bucket(bucket)
  local key = bucket_key(bucket)
  local known, flat = entries(key), redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if not known[flat[i]] then known[flat[i]] = cmsgpack.unpack(flat[i + 1]) end
  end
  return known
end

local function add(key, field, delta, sign)
  local v = entry(key, field)
  for i = 1, NUMBERS do v[i] = v[i] + sign * delta[i] end
  touched[key][field] = true
  return v
end

-- Adds {offset_us, count, ...} to a bucket entry's times, newest first; FLOOR is the newest that was cut off.
local function add_stamps(v, stamps, sign)
  local list, floor = v[STAMPS] or {}, v[FLOOR] or -1
  for s = 1, #stamps, 2 do
    local at, count = stamps[s], sign * stamps[s + 1]
    if at > floor then
      local i, size = 1, #list
      while i < size and list[i] > at do i = i + 2 end
      if list[i] == at then
        list[i + 1] = list[i + 1] + count
        if list[i + 1] == 0 then
          table.remove(list, i + 1)
          table.remove(list, i)
        end
      else
        table.insert(list, i, count)
        table.insert(list, i, at)
        if size >= 2 * KEPT_STAMPS then
          floor = list[size + 1]
          list[size + 2], list[size + 1] = nil, nil
        end
      end
    end
  end
  v[STAMPS], v[FLOOR] = list, floor
end

local function is_zero(v)
  for i = 1, NUMBERS do
    if v[i] ~= 0 then return false end
  end
  return true
end

local function shift(bucket, sign)
  local totals = base .. 'totals'
  local content, fields = read_bucket(bucket), {}
  for field in pairs(content) do fields[#fields + 1] = field end
  prefetch(totals, fields)
  for field, v in pairs(content) do add(totals, field, v, sign) end
end

local function forget_totals()
  local totals = base .. 'totals'
  local known = entries(totals)
  for _, field in ipairs(redis.call('HKEYS', totals)) do
    known[field] = unpacked(false)
    touched[totals][field] = true
  end
end

-- Moves the window to `now` in the cache: what left is taken off, what entered is added, exactly, however long ago
-- the last call was. Work is bounded by the buckets that exist; when most of the window left, what stays is recounted.
local function advance(now)
  local last = (math.floor(now / STEP) + 1) * STEP
  if last < window.last - STEP then return {'clock_back', number(window.last - last)} end
  if last <= window.last then return nil end
  local was_first, was_last = window.first, window.last
  local first = last - window.length
  local leaving, staying, entering = {}, {}, {}
  for _, text in ipairs(redis.call('ZRANGE', base .. 'buckets', 0, -1)) do
    local bucket = tonumber(text)
    local at = bucket * STEP
    if wrong(bucket_key(bucket), 'hash') then return {'wrongtype', bucket_key(bucket)} end
    if at < first then
      gone[bucket_key(bucket)] = bucket
      if at >= was_first and at < was_last then leaving[#leaving + 1] = bucket end
    elseif at < was_last then
      staying[#staying + 1] = bucket
    elseif at < last then
      entering[#entering + 1] = bucket
    end
  end
  if #leaving > #staying then
    forget_totals()
    for _, bucket in ipairs(staying) do shift(bucket, 1) end
  else
    for _, bucket in ipairs(leaving) do shift(bucket, -1) end
  end
  for _, bucket in ipairs(entering) do shift(bucket, 1) end
  window.first, window.last, window.moved = first, last, true
  return nil
end

local function chunked(command, key, values)
  for i = 1, #values, ARGS do
    redis.call(command, key, unpack(values, i, math.min(i + ARGS - 1, #values)))
  end
end

local function flush_hash(key, fields)
  local sets, dels = {}, {}
  for field in pairs(fields) do
    local v = cache[key][field]
    if is_zero(v) then
      dels[#dels + 1] = field
    else
      sets[#sets + 1] = field
      sets[#sets + 1] = cmsgpack.pack(v)
    end
  end
  chunked('HSET', key, sets)
  chunked('HDEL', key, dels)
  return #sets > 0
end

-- Cuts the oldest changes once they outnumber the contents; a reader that is behind the cut must load everything.
local function trim_changed()
  local contents = redis.call('HLEN', base .. 'totals')
  local surplus = redis.call('ZCARD', base .. 'changed') - 2 * contents - CHANGED_SLACK
  if surplus <= 0 then return end
  local cut = surplus + CHANGED_SLACK / 2
  local oldest = redis.call('ZRANGE', base .. 'changed', cut - 1, cut - 1, 'WITHSCORES')
  redis.call('ZREMRANGEBYRANK', base .. 'changed', 0, cut - 1)
  redis.call('HSET', base .. 'fence', 'pruned', oldest[2])
end

-- Writes the cache. The sequence of a change never goes back, not even when an older copy of the data is restored,
-- because it follows the clock: that is what lets a publisher ask for "what changed since".
local function flush()
  local seq = math.max(tonumber(head.seq) + 1, microseconds())
  local changed = {}
  for field in pairs(touched[base .. 'totals'] or {}) do
    changed[#changed + 1] = number(seq)
    changed[#changed + 1] = field
  end
  if #changed > 0 then head.seq = number(seq) end
  redis.call('HSET', base .. 'fence', 'window_end', number(window.last), 'seq', head.seq)
  for key, fields in pairs(touched) do
    if not gone[key] and flush_hash(key, fields) and key ~= base .. 'totals' then
      local bucket = string.sub(key, #base + 8)
      redis.call('ZADD', base .. 'buckets', bucket, bucket)
    end
  end
  for key, bucket in pairs(gone) do
    redis.call('UNLINK', key)
    redis.call('ZREM', base .. 'buckets', number(bucket))
  end
  chunked('ZADD', base .. 'changed', changed)
  if window.moved then
    for _, name in ipairs({'refused', 'replayed'}) do
      redis.call('ZREMRANGEBYSCORE', base .. name, '-inf', '(' .. number(window.first * 1e6))
    end
    trim_changed()
  end
end

local function drop_generation(generation)
  local prefix = root .. generation .. ':'
  if not wrong(prefix .. 'buckets', 'zset') then
    for _, bucket in ipairs(redis.call('ZRANGE', prefix .. 'buckets', 0, -1)) do
      redis.call('UNLINK', prefix .. 'bucket:' .. bucket)
    end
  end
  for _, name in ipairs(GENERATION_KEYS) do redis.call('UNLINK', prefix .. name) end
end
