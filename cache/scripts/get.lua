-- Reads a document, or gives the caller the lease to fill it. See doc.go for the fields and the rules.
-- ARGV: mode, era needed, version needed (era, number), age that is trusted in ms, vouched, run, new token, lease in ms, -ln(random)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local h = redis.call('HMGET', KEYS[1], 'e', 'n', 'fe', 'fn', 'v', 'g', 'm', 's', 'u', 't', 'x', 'w', 'd')
local mode, run = ARGV[1], ARGV[7]
local e, n, fe, fn = tonumber(h[1] or 0), tonumber(h[2] or 0), tonumber(h[3] or 0), tonumber(h[4] or 0)
local leased = h[10] and now < tonumber(h[11])

if h[12] and mode ~= 'eventual' then
  for expiry in string.gmatch(h[12], ':(%d+)') do
    if now < tonumber(expiry) then return {'bypass'} end
  end
end

local function below(le, ln, re, rn) return le < re or (le == re and ln < rn) end
local hit, left = false, nil
local age = now - tonumber(h[8] or 0)
local own = h[9] == run
if h[5] and not below(e, n, fe, fn) then
  if mode == 'eventual' then
    hit = true
  elseif mode == 'at_least' then
    hit = not below(e, n, tonumber(ARGV[3]), tonumber(ARGV[4]))
  else
    local fresh = own and age >= 0 and age <= tonumber(ARGV[5])
    hit = e >= tonumber(ARGV[2]) and (ARGV[6] == '1' or fresh)
    if ARGV[6] ~= '1' then left = tonumber(ARGV[5]) - age end
  end
end

local code = 'lease'
if hit then
  code = 'hit'
  if left and not leased and tonumber(h[13] or 0) * tonumber(ARGV[10]) >= left then code = 'refresh' end
elseif leased then
  return {'wait'}
end
if code ~= 'hit' then
  redis.call('HSET', KEYS[1], 't', ARGV[8], 'x', now + ARGV[9])
  if redis.call('PTTL', KEYS[1]) < ARGV[9] * 2 then redis.call('PEXPIRE', KEYS[1], ARGV[9] * 2) end
end
if not hit then
  return {code, ARGV[8], h[5] and 1 or 0}
end
return {code, ARGV[8], 1, h[1], h[2], h[6], h[7], h[5], age, own and 1 or 0}
