-- Reads some contents' totals, unique users and last event at one moment.
-- ARGV: generation, content, ... Answer: ok, window end, then per content: totals or '', users, last event in us or ''.
local refusal = open_shard(ARGV[1])
if refusal then return refusal end

local buckets = {}
for _, text in ipairs(redis.call('ZREVRANGE', base .. 'buckets', 0, -1)) do
  local at = tonumber(text) * STEP
  if at >= window.first and at < window.last then buckets[#buckets + 1] = tonumber(text) end
end

local function last_event(content)
  for _, bucket in ipairs(buckets) do
    local raw = redis.call('HGET', bucket_key(bucket), content)
    local v = raw and cmsgpack.unpack(raw)
    if v and v[2] > 0 then
      for i = 1, #v[STAMPS], 2 do
        if v[STAMPS][i + 1] > 0 then return number(bucket * STEP * 1e6 + v[STAMPS][i]) end
      end
      return number(bucket * STEP * 1e6 + math.max(v[FLOOR], 0))
    end
  end
  return ''
end

local function unique_users(content)
  local keys = {}
  for minute = math.floor(window.first / 60), math.floor((window.last - 1) / 60) do
    local key = base .. 'users:' .. number(minute) .. ':' .. content
    if redis.call('EXISTS', key) == 1 then keys[#keys + 1] = key end
  end
  if #keys == 0 then return 0 end
  local users = redis.pcall('PFCOUNT', unpack(keys))
  return type(users) == 'number' and users or 0
end

local result = {'ok', window.last}
for i = 2, #ARGV do
  local totals = redis.call('HGET', base .. 'totals', ARGV[i])
  result[#result + 1] = totals or ''
  result[#result + 1] = totals and unique_users(ARGV[i]) or 0
  result[#result + 1] = totals and last_event(ARGV[i]) or ''
end
return result
