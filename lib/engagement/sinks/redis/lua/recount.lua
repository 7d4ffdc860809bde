-- Compares the totals of some contents with the sum of their buckets; writes nothing.
-- ARGV: generation, cursor, contents per call. Answer: ok, next cursor, contents compared, contents that differ.
local refusal = open_shard(ARGV[1])
if refusal then return refusal end
local scan = redis.call('HSCAN', base .. 'totals', ARGV[2], 'COUNT', ARGV[3])
local contents, seen = {}, {}
local function note(flat)
  for i = 1, #flat, 2 do
    if not seen[flat[i]] then
      seen[flat[i]] = true
      contents[#contents + 1] = flat[i]
    end
  end
end
note(scan[2])
local buckets = {}
for _, text in ipairs(redis.call('ZRANGE', base .. 'buckets', 0, -1)) do
  local at = tonumber(text) * STEP
  if wrong(bucket_key(tonumber(text)), 'hash') then return {'wrongtype', bucket_key(tonumber(text))} end
  if at >= window.first and at < window.last then buckets[#buckets + 1] = tonumber(text) end
end
-- A content whose totals vanished is only found from a bucket: look at another one each time.
if #buckets > 0 then
  local pick = buckets[1 + math.floor(microseconds() / 1000) % #buckets]
  note(redis.call('HSCAN', bucket_key(pick), 0, 'COUNT', ARGV[3])[2])
end

local sums = {}
for i = 1, #contents do sums[i] = unpacked(false) end
for _, bucket in ipairs(buckets) do
  for i = 1, #contents, ARGS do
    local last = math.min(i + ARGS - 1, #contents)
    local values = redis.call('HMGET', bucket_key(bucket), unpack(contents, i, last))
    for j = i, last do
      local raw = values[j - i + 1]
      local v = unpacked(raw)
      for n = 1, NUMBERS do sums[j][n] = sums[j][n] + v[n] end
    end
  end
end
local differ = 0
for i = 1, #contents do
  local v = unpacked(redis.call('HGET', base .. 'totals', contents[i]))
  for n = 1, NUMBERS do
    if v[n] ~= sums[i][n] then
      differ = differ + 1
      break
    end
  end
end
return {'ok', scan[1], #contents, differ}
