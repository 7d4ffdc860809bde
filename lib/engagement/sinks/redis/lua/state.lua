-- Reads what a writer must know before it aggregates. ARGV: generation ('' = current).
-- Answer: ok, numbers of refused rows and of replays remembered, then the fence as field, value, ...
local refusal = open_shard(ARGV[1])
if refusal then return refusal end
local result = {'ok', redis.call('ZCARD', base .. 'refused'), redis.call('ZCARD', base .. 'replayed')}
for field, value in pairs(head) do
  result[#result + 1] = field
  result[#result + 1] = value
end
return result
