-- The first contents of the ranking, ties by content id. KEYS[1]: the ranking. ARGV[1]: how many.
-- A ZSET read from its end gives ties in falling order, so the ties at the cut are read again from their start.
local count = tonumber(ARGV[1])
local flat = redis.call('ZREVRANGE', KEYS[1], 0, count - 1, 'WITHSCORES')
if #flat < 2 * count then return flat end
local cut, result = flat[#flat], {}
for i = 1, #flat, 2 do
  if flat[i + 1] ~= cut then
    result[#result + 1] = flat[i]
    result[#result + 1] = flat[i + 1]
  end
end
local ties = redis.call('ZRANGEBYSCORE', KEYS[1], cut, cut, 'LIMIT', 0, count - #result / 2)
for _, content in ipairs(ties) do
  result[#result + 1] = content
  result[#result + 1] = cut
end
return result
