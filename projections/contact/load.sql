-- The identities that hold any of these keys, each whole, and the head they were read at.
-- No `or` across columns: each arm is one index scan a key.
with holder as (
    select coalesce(c.linked_id, c.id) as primary_id
    from unnest($1::text[]) as k (key)
    join contact as c on c.email_key = k.key
    union
    select coalesce(c.linked_id, c.id)
    from unnest($2::text[]) as k (key)
    join contact as c on c.phone_key = k.key
),
member as (
    select c.id, c.linked_id, c.created_at, c.updated_at, c.deleted_at,
        c.email, c.phone_number, c.email_key, c.phone_key, c.unlinked_email, c.unlinked_phone
    from holder as h
    join contact as c on c.id = h.primary_id
    union all
    select c.id, c.linked_id, c.created_at, c.updated_at, c.deleted_at,
        c.email, c.phone_number, c.email_key, c.phone_key, c.unlinked_email, c.unlinked_phone
    from holder as h
    join contact as c on c.linked_id = h.primary_id
)
select h.position, h.observation_id, h.recorded_at, h.rules_digest,
    h.schema_version as "schema_version: ThisVersion", clock_timestamp() as "now!",
    m.id as "id?", m.linked_id, m.created_at as "created_at?", m.updated_at as "updated_at?",
    m.deleted_at,
    m.email, m.phone_number, m.email_key, m.phone_key,
    m.unlinked_email, m.unlinked_phone
from head as h
left join member as m on true
order by m.id
