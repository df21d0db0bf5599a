-- Announces a write: until it is taken back or its time is over, nobody believes or fills what is here.
-- ARGV: write id, how long in ms
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local kept = ''
for id, expiry in string.gmatch(redis.call('HGET', KEYS[1], 'w') or '', '(%w+):(%d+) ') do
  if now < tonumber(expiry) then kept = kept .. id .. ':' .. expiry .. ' ' end
end
redis.call('HSET', KEYS[1], 'w', kept .. ARGV[1] .. ':' .. string.format('%.0f', now + ARGV[2]) .. ' ')
redis.call('HDEL', KEYS[1], 't', 'x')
if redis.call('PTTL', KEYS[1]) < ARGV[2] * 2 then redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2) end
return 'announced'
