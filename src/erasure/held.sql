-- All that is held on the identity that observation $1 belongs to: what is filed under one of its
-- contacts, these included, in order, each beside the head that it was read at. No observation: one
-- row with the head alone. Each arm is a range of one index, as in projections/contact/identity.sql.
with asked as (
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
    select coalesce(c.linked_id, c.id) as id
    from asked as a
    join contact as c on c.id = a.contact_id
),
member as (
    select l.id
    from leader as l
    union all
    select c.id
    from leader as l
    join contact as c on c.linked_id = l.id
),
-- What was ever filed under one of them.
candidate as (
    select m.id
    from member as m
    union
    select e.observation_id
    from member as m
    join event as e on e.contact_id = m.id
    where e.kind = 'ContactObserved' and e.contact_id <> e.observation_id
    union
    select e.observation_id
    from member as m
    join event as e on e.contact_id = m.id
    where e.kind <> 'ContactObserved' and e.kind in ('ContactRetired', 'ObservationMoved')
),
-- Where it is filed now: a rule change may have made a contact of it, or moved it. Materialized: else
-- that would be looked up again for each pair of an observation and a member.
filed as materialized (
    select o.id, o.position, o.observed_at, o.email, o.phone_number, o.salt,
        coalesce(
            (select k.id from contact as k where k.id = c.id),
            (
                select e.contact_id
                from event as e
                where e.observation_id = c.id and e.kind in ('ContactRetired', 'ObservationMoved')
                order by e.position desc
                limit 1
            ),
            (select e.contact_id from event as e where e.position = o.position)
        ) as contact_id
    from candidate as c
    join observation as o on o.id = c.id
),
held as (
    select f.id, f.position, f.observed_at, f.email, f.phone_number, f.salt, f.contact_id,
        c.linked_id, c.updated_at
    from filed as f
    join contact as c on c.id = f.contact_id
    where coalesce(c.linked_id, c.id) = (select l.id from leader as l)
)
select h.position as head_position, h.schema_version as "schema_version: ThisVersion",
    greatest(clock_timestamp(), h.recorded_at) as "now!",
    f.id as "id?", f.position as "position?", f.observed_at as "observed_at?",
    f.email, f.phone_number, f.salt is null as "is_erased!",
    f.contact_id as "contact_id?",
    f.linked_id, f.updated_at as "updated_at?"
from head as h
left join held as f on true
order by f.id
