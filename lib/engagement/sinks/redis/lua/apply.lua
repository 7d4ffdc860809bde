-- Adds one contiguous offset range of one partition to its shard and moves the fence, all or nothing.
-- ARGV[1]: msgpack map made by delta.py (Delta.pack). Answers ok / ahead / behind / moved / missing / wrongtype / clock_back.
local d = cmsgpack.unpack(ARGV[1])
if d.live and not wrong(KEYS[1], 'string') then -- asked first: a swap drops the former generation at once
  local current = redis.call('GET', KEYS[1])
  if not current then return {'missing'} end
  if current ~= d.generation then return {'moved'} end
end
local refusal = open_shard(d.generation)
if refusal then return refusal end
local next_offset = tonumber(head.next)
if next_offset > d.from then return {'ahead'} end
if next_offset < d.from then return {'behind', head.next} end
local now = seconds(d.now)
for _, part in ipairs(d.buckets) do
  if wrong(bucket_key(part[1]), 'hash') then return {'wrongtype', bucket_key(part[1])} end
end
for _, take in ipairs(d.takes) do
  if wrong(bucket_key(take[2]), 'hash') then return {'wrongtype', bucket_key(take[2])} end
end
refusal = advance(now)
if refusal then return refusal end

local totals = base .. 'totals'
local late, snapshots = 0, 0

local function count(bucket, content, delta, sign) -- delta[10]: {offset_us, count, ...}
  add_stamps(add(bucket_key(bucket), content, delta, sign), delta[STAMPS], sign)
  if bucket * STEP < window.last then add(totals, content, delta, sign) end
end

for _, part in ipairs(d.buckets) do
  local bucket, rows, contents, deltas = unpack(part)
  if bucket * STEP < window.first then
    late = late + rows
  else
    prefetch(bucket_key(bucket), contents)
    if bucket * STEP < window.last then prefetch(totals, contents) end
    for i = 1, #contents do count(bucket, contents[i], deltas[i], 1) end
  end
end
-- A `before` whose row was refused, for its time or for a changed id, was never counted: it must not be taken back.
for _, take in ipairs(d.takes) do
  local event_id, bucket, content, delta = unpack(take)
  if bucket * STEP < window.first then
    late = late + 1
  elseif not redis.call('ZSCORE', base .. 'refused', event_id) then
    count(bucket, content, delta, -1)
  end
end
for i = 1, #d.snapshots, 2 do
  if d.snapshots[i] * STEP < window.first then
    late = late + d.snapshots[i + 1]
  else
    snapshots = snapshots + d.snapshots[i + 1]
  end
end
-- A message about an event that a replay speaks for says what the source had before, not what was counted.
for _, event_id in ipairs(d.touched) do
  if redis.call('ZSCORE', base .. 'replayed', event_id) then snapshots = snapshots + 1 end
end

flush() -- its first write is refused when Redis is out of memory; after it nothing is
for _, part in ipairs(d.users) do
  local minute, content, users = unpack(part)
  if (minute + 1) * 60 > window.first then
    local key = base .. 'users:' .. number(minute) .. ':' .. content
    for i = 1, #users, ARGS do
      local last = math.min(i + ARGS - 1, #users)
      if type(redis.pcall('PFADD', key, unpack(users, i, last))) == 'table' then
        redis.call('UNLINK', key)
        redis.call('PFADD', key, unpack(users, i, last))
      end
    end
    redis.call('EXPIRE', key, math.max(1, math.ceil((minute + 2) * 60 + window.length - now)))
  end
end
chunked('ZREM', base .. 'refused', d.refused_drop)
chunked('ZADD', base .. 'refused', d.refused_add)
if #d.refused_add > 0 then
  -- Those farthest ahead go first: none of them can matter before its time comes.
  redis.call('ZREMRANGEBYRANK', base .. 'refused', d.refused_limit, -1)
end
chunked('ZREM', base .. 'replayed', d.replayed_drop)
chunked('ZADD', base .. 'replayed', d.replayed_add)
-- What was left out is remembered with the fence that has passed it, until another generation has counted it.
if snapshots > 0 then
  d.fence[#d.fence + 1] = 'recount_due'
  d.fence[#d.fence + 1] = '1'
end
redis.call('HSET', base .. 'fence', 'next', number(d.to), unpack(d.fence))
return {'ok', late, snapshots}
