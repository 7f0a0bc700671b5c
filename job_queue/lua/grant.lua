-- Grant a person credits.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  user      ARGV[2]  milliseconds of GPU time; a negative number takes some back
-- ARGV[3]  id of the grant, chosen by who grants
--
-- Returns 'granted', or 'known' when this grant was made before.
-- Invariant: the same grant again changes nothing, so a reply that was lost doubles none.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include allowance

proceed_when_full()
if not redis.call('SET', key('grant', ARGV[3]), '1', 'NX', 'EX', 86400) then
  return 'known'
end
add_credits(ARGV[1], limits_of(ARGV[1]).credits_hour or 0, tonumber(ARGV[2]))
redis.call('EXPIRE', key('allowance', ARGV[1]), KEEP_S)
return 'granted'
