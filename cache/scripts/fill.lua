-- Stores what the holder of a lease has read from the primary, unless anything has happened to the document since the lease was given.
-- ARGV: token, version (era, number), era of the row, time of the row, body, run, time to live in ms, cost in ms, lease in ms
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local h = redis.call('HMGET', KEYS[1], 't', 'x', 'e', 'n', 'fe', 'fn')
if h[1] ~= ARGV[1] or now >= tonumber(h[2]) then return 'token' end
local e, n = tonumber(ARGV[2]), tonumber(ARGV[3])
local function older(oe, on) return oe and (e < tonumber(oe) or (e == tonumber(oe) and n < tonumber(on))) end
if older(h[3], h[4]) or older(h[5], h[6]) then return 'older' end
redis.call('HSET', KEYS[1], 'e', e, 'n', n, 'g', ARGV[4], 'm', ARGV[5], 'v', ARGV[6], 's', h[2] - ARGV[10], 'u', ARGV[7], 'd', ARGV[9])
redis.call('HDEL', KEYS[1], 't', 'x')
redis.call('PEXPIRE', KEYS[1], ARGV[8])
return 'stored'
