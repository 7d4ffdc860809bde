-- Keeps the newest version of one event. KEYS[1]: the hash. ARGV: version as 20 digits, seconds to live, field, value...
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local stored = redis.call('HGET', KEYS[1], 'sort_version')
if stored and stored > ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'sort_version', ARGV[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
