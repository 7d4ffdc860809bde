-- Reads what a writer must know before it aggregates. ARGV: generation ('' = current).
-- Answer: ok, number of refused rows remembered, then the fence as field, value, ...
local refusal = open_shard(ARGV[1])
if refusal then return refusal end
local result = {'ok', redis.call('ZCARD', base .. 'refused')}
for field, value in pairs(head) do
  result[#result + 1] = field
  result[#result + 1] = value
end
return result
