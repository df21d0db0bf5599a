-- Tells Redis of a write that is committed. A document that nobody has asked for stays out: no lease can live on an absent key.
-- ARGV: version (era, number), time of the row, body, whether the body is known, stamp in ms, run, time to live in ms, write id
if redis.call('EXISTS', KEYS[1]) == 0 then return 'absent' end
local h = redis.call('HMGET', KEYS[1], 'e', 'n', 'fe', 'fn', 'v', 'w')
local e, n = tonumber(ARGV[1]), tonumber(ARGV[2])
local function newer(oe, on) return not oe or e > tonumber(oe) or (e == tonumber(oe) and n > tonumber(on)) end
local done = 'older'
if h[1] and e < tonumber(h[1]) and n > tonumber(h[2]) then -- numbers never fall, so somebody has written the row by hand in its old era
  redis.call('HDEL', KEYS[1], 'v', 'e', 'n', 'g', 'm', 's', 'u', 'fe', 'fn', 't', 'x')
  return 'forgotten'
end
if newer(h[3], h[4]) then
  redis.call('HSET', KEYS[1], 'fe', e, 'fn', n)
  redis.call('HDEL', KEYS[1], 't', 'x')
  done = 'floor'
end
if newer(h[1], h[2]) then
  if h[5] and ARGV[5] == '1' then
    redis.call('HSET', KEYS[1], 'e', e, 'n', n, 'g', e, 'm', ARGV[3], 'v', ARGV[4], 's', ARGV[6], 'u', ARGV[7])
    redis.call('PEXPIRE', KEYS[1], ARGV[8])
    done = 'stored'
  else
    redis.call('HDEL', KEYS[1], 'v')
  end
end
if h[6] and ARGV[9] ~= '' then
  local left = string.gsub(h[6], ARGV[9] .. ':%d+ ', '')
  if left == '' then redis.call('HDEL', KEYS[1], 'w') else redis.call('HSET', KEYS[1], 'w', left) end
end
return done
