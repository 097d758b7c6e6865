-- Which observation a request with an Idempotency-Key was recorded as. A row is kept for as long as
-- a retry is answered by it; nothing in the ledger depends on it.
create table idempotency (
    -- A hash of the caller and the key.
    key uuid not null,
    observation_id bigint not null
);

-- Not unique: a key whose time is over may come again before its row is gone. Whoever appends has
-- looked for it at the head that the append is conditional on, so that it cannot come twice in time;
-- and a unique index would look once more.
create index idempotency_key on idempotency (key);

-- The oldest go first, and an observation that is forgotten takes its key along.
create index idempotency_observation_id on idempotency (observation_id);
