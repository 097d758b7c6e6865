-- The identity that an observation's number belongs to: of its own contact, or of the one
-- that it is filed under, by its own event or by the last rule change that moved it. No contact:
-- one row with the head alone.
with filed as (
    select coalesce(
        (select c.id from contact as c where c.id = $1),
        (
            select e.contact_id
            from event as e
            where e.observation_id = $1 and e.kind in ('ContactRetired', 'ObservationMoved')
            order by e.position desc
            limit 1
        ),
        (
            select e.contact_id
            from observation as o
            join event as e on e.position = o.position
            where o.id = $1
        )
    ) as contact_id
),
leader as (
    select coalesce(c.linked_id, c.id) as primary_id
    from filed as f
    join contact as c on c.id = f.contact_id
),
member as (
    select c.id, c.linked_id, c.created_at, c.updated_at, c.deleted_at,
        c.email, c.phone_number, c.email_key, c.phone_key, c.unlinked_email, c.unlinked_phone
    from leader as l
    join contact as c on c.id = l.primary_id
    union all
    select c.id, c.linked_id, c.created_at, c.updated_at, c.deleted_at,
        c.email, c.phone_number, c.email_key, c.phone_key, c.unlinked_email, c.unlinked_phone
    from leader as l
    join contact as c on c.linked_id = l.primary_id
)
select h.position, h.observation_id, h.recorded_at, h.rules_digest,
    to_regclass('contact')::oid::bigint as contact_table,
    h.schema_version as "schema_version: ThisVersion", clock_timestamp() as "now!",
    m.id as "id?", m.linked_id, m.created_at as "created_at?", m.updated_at as "updated_at?",
    m.deleted_at,
    m.email, m.phone_number, m.email_key, m.phone_key,
    m.unlinked_email, m.unlinked_phone
from head as h
left join member as m on true
-- Of all versions: by its index the row is found without reading the pages of old ones.
where h.schema_version > 0
