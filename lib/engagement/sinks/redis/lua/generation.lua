-- The life of generations: one is current (readers and writers follow the pointer), at most one is being built.
-- ARGV[1]: new  -> ARGV: next offset, topic id, window seconds, injected now. Answer: ok, generation, former current.
--          swap -> ARGV: generation, the current one it replaces. Answer: ok, moved or missing.
--          drop -> ARGV: generation. Answer: ok. The current one is never dropped.
--          retire -> Answer: ok. Nothing is left of the shard.
local all = root .. 'generations'
if wrong(KEYS[1], 'string') then redis.call('UNLINK', KEYS[1]) end
if wrong(all, 'set') then redis.call('UNLINK', all) end
local current = redis.call('GET', KEYS[1]) or ''

local function drop_others(kept)
  for _, generation in ipairs(redis.call('SMEMBERS', all)) do
    if generation ~= kept and generation ~= current then
      drop_generation(generation)
      redis.call('SREM', all, generation)
    end
  end
end

if ARGV[1] == 'new' then
  -- Never reused, not even after the data was lost: a publisher must not take a new generation for the old one.
  local generation = number(math.max((tonumber(current) or 0) + 1, microseconds()))
  for _, other in ipairs(redis.call('SMEMBERS', all)) do
    if tonumber(other) >= tonumber(generation) then generation = number(tonumber(other) + 1) end
  end
  local last = (math.floor(seconds(ARGV[5]) / STEP) + 1) * STEP
  local prefix = root .. generation .. ':'
  redis.call('HSET', prefix .. 'fence', 'next', ARGV[2], 'topic_id', ARGV[3], 'window_seconds', ARGV[4],
    'window_end', number(last), 'seq', number(microseconds()))
  redis.call('SADD', all, generation)
  local refused = root .. current .. ':refused'
  if current ~= '' and not wrong(refused, 'zset') then redis.call('ZUNIONSTORE', prefix .. 'refused', 1, refused) end
  drop_others(generation)
  return {'ok', generation, current}
elseif ARGV[1] == 'swap' then
  if current ~= ARGV[3] then return {'moved'} end
  if redis.call('EXISTS', root .. ARGV[2] .. ':fence') == 0 then return {'missing'} end
  redis.call('SET', KEYS[1], ARGV[2])
  current = ARGV[2]
  redis.call('SADD', all, current)
  drop_others(current)
  return {'ok'}
elseif ARGV[1] == 'retire' then
  drop_generation(current)
  current = ''
  drop_others('')
  redis.call('UNLINK', KEYS[1], all)
  return {'ok'}
end
if ARGV[2] ~= current then
  drop_generation(ARGV[2])
  redis.call('SREM', all, ARGV[2])
end
return {'ok'}
