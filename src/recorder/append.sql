-- Appends a batch without demotions and idempotency keys, if the head still stands where the batch
-- was decided, by the rules $22, and the tables are of the version $21; else does nothing and returns
-- no row. One statement, so that it commits in its own round trip and no transaction ever waits for
-- a client.
with moved_head as (
    update head
    set position = $1::bigint + cardinality($6::text[]),
        observation_id = $2::bigint + cardinality($11::bytea[]),
        recorded_at = $3
    where position = $1::bigint
        and schema_version = $21::bigint
        and rules_digest = $22::text
    returning position
),
appended as (
    insert into event (position, recorded_at, kind, contact_id, observation_id, primary_id, line)
    select $1::bigint + e.n, $3, e.kind, e.contact_id, e.observation_id, e.primary_id, e.line
    from moved_head
    cross join unnest($4::text[], $5::bigint[], $7::bigint[], $8::bigint[], $6::text[])
        with ordinality as e (kind, contact_id, observation_id, primary_id, line, n)
),
observed as (
    insert into observation (id, position, observed_at, email, phone_number, salt)
    select $2::bigint + o.n, o.position, $3, o.email, o.phone_number, o.salt
    from moved_head
    cross join unnest($9::text[], $10::text[], $11::bytea[], $12::bigint[])
        with ordinality as o (email, phone_number, salt, position, n)
),
introduced as (
    insert into contact (
        id, linked_id, created_at, updated_at, email, phone_number, email_key, phone_key,
        unlinked_email, unlinked_phone
    )
    select c.id, c.linked_id, $3, $3, c.email, c.phone_number, c.email_key, c.phone_key,
        c.unlinked_email, c.unlinked_phone
    from moved_head
    cross join unnest(
        $13::bigint[], $14::bigint[], $15::text[], $16::text[], $17::text[], $18::text[],
        $19::text[], $20::text[]
    ) as c (
        id, linked_id, email, phone_number, email_key, phone_key, unlinked_email, unlinked_phone
    )
)
select position
from moved_head
