-- Of some contents, those that a shard holds: in the window, or in a bucket that is yet to enter it; writes nothing.
-- ARGV: content, ... Answer: ok, content, ...
local refusal = open_shard('')
if refusal then return refusal end
local hashes = {base .. 'totals'}
for _, bucket in ipairs(redis.call('ZRANGEBYSCORE', base .. 'buckets', window.last / STEP, '+inf')) do
  if wrong(bucket_key(tonumber(bucket)), 'hash') then return {'wrongtype', bucket_key(tonumber(bucket))} end
  hashes[#hashes + 1] = bucket_key(tonumber(bucket))
end
local found = {}
for _, key in ipairs(hashes) do
  for i = 1, #ARGV, ARGS do
    local last = math.min(i + ARGS - 1, #ARGV)
    local values = redis.call('HMGET', key, unpack(ARGV, i, last))
    for j = i, last do
      if values[j - i + 1] then found[ARGV[j]] = true end
    end
  end
end
local result = {'ok'}
for content in pairs(found) do result[#result + 1] = content end
return result
