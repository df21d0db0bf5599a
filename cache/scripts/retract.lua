-- Takes back the announcement of a write that did not happen.
-- ARGV: write id
local w = redis.call('HGET', KEYS[1], 'w')
if not w then return 'absent' end
local left = string.gsub(w, ARGV[1] .. ':%d+ ', '')
if left == '' then redis.call('HDEL', KEYS[1], 'w') else redis.call('HSET', KEYS[1], 'w', left) end
return 'retracted'
