-- Advances the window to now and returns what changed since a sequence, in pages that never split one sequence.
-- ARGV: generation ('' = current), since, page size (0 = advance only), injected now ('' = Redis time).
-- Answer: ok, generation, window end, sequence read up to, more (0/1), load everything (0/1), next offset,
-- recount due (0/1), content, totals, ...
local refusal = open_shard(ARGV[1])
if refusal then return refusal end
refusal = advance(seconds(ARGV[4]))
if refusal then return refusal end
if window.moved then
  redis.call('UNLINK', base .. 'unused') -- a first write that a full Redis does not refuse: a tick frees memory
  flush()
end

local since, page = tonumber(ARGV[2]), tonumber(ARGV[3])
local full = (since < tonumber(head.pruned or '0') or since > tonumber(head.seq)) and 1 or 0
local result = {'ok', head.generation, window.last, head.seq, 0, full, head.next, head.recount_due or '0'}
if page == 0 or full == 1 then return result end
local after = '(' .. number(since)
local members = redis.call('ZRANGEBYSCORE', base .. 'changed', after, '+inf', 'LIMIT', 0, page)
if #members == page then
  local last = redis.call('ZSCORE', base .. 'changed', members[page])
  members = redis.call('ZRANGEBYSCORE', base .. 'changed', after, last)
  result[4], result[5] = number(tonumber(last)), 1
end
for i = 1, #members, ARGS do
  local stop = math.min(i + ARGS - 1, #members)
  local values = redis.call('HMGET', base .. 'totals', unpack(members, i, stop))
  for j = i, stop do
    result[#result + 1] = members[j]
    result[#result + 1] = values[j - i + 1] or ''
  end
end
return result
