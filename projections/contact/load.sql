-- The head, and after it the identities that hold any of these keys, each whole: all of it holds at the
-- head's position. Some members come more than once.
-- No `or` across columns: each arm is one index scan a key.
with holder as (
    select c.id, c.linked_id, c.created_at, c.updated_at, c.deleted_at,
        c.email, c.phone_number, c.email_key, c.phone_key, c.unlinked_email, c.unlinked_phone
    from unnest($1::text[]) as k (key)
    join contact as c on c.email_key = k.key
    union all
    select c.id, c.linked_id, c.created_at, c.updated_at, c.deleted_at,
        c.email, c.phone_number, c.email_key, c.phone_key, c.unlinked_email, c.unlinked_phone
    from unnest($2::text[]) as k (key)
    join contact as c on c.phone_key = k.key
),
member as (
    select h.id, h.linked_id, h.created_at, h.updated_at, h.deleted_at,
        h.email, h.phone_number, h.email_key, h.phone_key, h.unlinked_email, h.unlinked_phone
    from holder as h
    union all
    select c.id, c.linked_id, c.created_at, c.updated_at, c.deleted_at,
        c.email, c.phone_number, c.email_key, c.phone_key, c.unlinked_email, c.unlinked_phone
    from (select distinct linked_id from holder where linked_id is not null) as l
    join contact as c on c.id = l.linked_id
    union all
    select c.id, c.linked_id, c.created_at, c.updated_at, c.deleted_at,
        c.email, c.phone_number, c.email_key, c.phone_key, c.unlinked_email, c.unlinked_phone
    from (select distinct coalesce(linked_id, id) as primary_id from holder) as p
    join contact as c on c.linked_id = p.primary_id
)
select h.position, h.observation_id, h.recorded_at, h.rules_digest,
    to_regclass('contact')::oid::bigint as contact_table,
    h.schema_version as "schema_version: ThisVersion", clock_timestamp() as now,
    null::bigint as id, null::bigint as linked_id, null::timestamptz as created_at,
    null::timestamptz as updated_at, null::timestamptz as deleted_at,
    null::text as email, null::text as phone_number, null::text as email_key,
    null::text as phone_key, null::text as unlinked_email, null::text as unlinked_phone
from head as h
-- Of all versions: by its index the row is found without reading the pages of old ones.
where h.schema_version > 0
union all
select null, null, null, null, null, null, null,
    m.id, m.linked_id, m.created_at, m.updated_at, m.deleted_at,
    m.email, m.phone_number, m.email_key, m.phone_key,
    m.unlinked_email, m.unlinked_phone
from member as m
