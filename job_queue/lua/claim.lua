-- Claim the next job for a worker, or put the worker among those that wait for one.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  worker      ARGV[2]  instance of the worker's process
-- ARGV[3]  claim id, chosen by the worker: the same id again returns the same job
-- ARGV[4]  digest of the worker's catalogue      ARGV[5]  lease in milliseconds
-- ARGV[6]  turn: rises with each claim id of the instance
--
-- Returns the job for the worker, {} when it now waits at its inbox, {'unknown'} when it must register first, or
-- {'spent'} when the claim's job is no longer its own, so that the worker needs a new claim id.
-- Invariant: a claim id is bound to at most one job, however often it is asked with. One that arrives late, after the
-- worker went on to another, is bound to none.
-- @include keys
-- @include assign
-- @include claiming

return claim_next(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
