-- Appends a batch if the head is still at the position $1 and the time $26 that the batch was decided
-- at, the rules in force are still $20, the contact table is still $25, and the tables are of the version
-- $19. The position alone does not tell after a failover that has lost events: others may have taken as
-- many positions since.
-- Otherwise does nothing and returns no row. It is one statement, so that it commits in its own
-- round trip, and no transaction ever waits for a client.
-- `to_regclass` is evaluated when the statement runs, with the table locked; `'contact'::regclass`
-- would be resolved at parse time and could name a table that a rebuild is just replacing.
-- $13 has the number of each observation that introduces a contact, and null for each that does not.
-- Arrays are unnested in select lists, side by side: in `from`, Postgres would first store each of
-- them apart, which takes a tenth of its time.
with moved_head as (
    update head
    set position = $1::bigint + cardinality($6::text[]),
        observation_id = $2::bigint + cardinality($11::bytea[]),
        recorded_at = $3
    where position = $1::bigint
        and recorded_at = $26
        and schema_version = $19::bigint
        and rules_digest = $20::text
        and to_regclass('contact')::oid::bigint = $25
    returning position
),
appended as (
    insert into event (position, recorded_at, kind, contact_id, observation_id, primary_id, line)
    select $1::bigint + e.n, $3, e.kind, e.contact_id, e.observation_id, e.primary_id, e.line
    from moved_head
    cross join (
        select generate_series(1, cardinality($6::text[])) as n, unnest($4::text[]) as kind,
            unnest($5::bigint[]) as contact_id, unnest($7::bigint[]) as observation_id,
            unnest($8::bigint[]) as primary_id, unnest($6::text[]) as line
    ) as e
),
observed as (
    insert into observation (id, position, observed_at, email, phone_number, salt)
    select $2::bigint + o.n, o.position, $3, o.email, o.phone_number, o.salt
    from moved_head
    cross join (
        select generate_series(1, cardinality($11::bytea[])) as n, unnest($9::text[]) as email,
            unnest($10::text[]) as phone_number, unnest($11::bytea[]) as salt,
            unnest($12::bigint[]) as position
    ) as o
),
introduced as (
    insert into contact (
        id, linked_id, link_precedence, created_at, updated_at, email, phone_number, email_key, phone_key,
        unlinked_email, unlinked_phone
    )
    select c.id, c.linked_id, case when c.linked_id is null then 'primary' else 'secondary' end,
        $3, $3, c.email, c.phone_number, c.email_key, c.phone_key,
        c.unlinked_email, c.unlinked_phone
    from moved_head
    cross join (
        select unnest($13::bigint[]) as id, unnest($14::bigint[]) as linked_id,
            unnest($9::text[]) as email, unnest($10::text[]) as phone_number,
            unnest($15::text[]) as email_key, unnest($16::text[]) as phone_key,
            unnest($17::text[]) as unlinked_email, unnest($18::text[]) as unlinked_phone
    ) as c
    where c.id is not null
),
retried as (
    insert into idempotency (key, observation_id)
    select r.key, r.observation_id
    from moved_head
    cross join (
        select unnest($21::uuid[]) as key, unnest($22::bigint[]) as observation_id
    ) as r
),
demoted as (
    select d.id, d.primary_id
    from moved_head
    cross join unnest($23::bigint[], $24::bigint[]) as d (id, primary_id)
),
moved as (
    update contact as c
    set linked_id = m.primary_id, link_precedence = 'secondary', updated_at = $3
    from (
        select d.id, d.primary_id
        from demoted as d
        union all
        select s.id, d.primary_id
        from demoted as d
        join contact as s on s.linked_id = d.id
    ) as m
    where c.id = m.id
)
select clock_timestamp() as "now!"
from moved_head
