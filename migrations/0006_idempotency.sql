-- Which observation a request with an Idempotency-Key was recorded as. A row is kept for as long as
-- a retry is answered by it; nothing in the ledger depends on it.
create table idempotency (
    -- A hash of the caller and the key.
    key uuid not null,
    observation_id bigint not null,
    -- An append that brings a key again is refused as a whole, and looks then.
    constraint idempotency_pkey primary key (key)
);

-- The oldest go first, and an observation that is forgotten takes its key along.
create index idempotency_observation_id on idempotency (observation_id);
