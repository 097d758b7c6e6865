-- Everything that is held about the identity that observation $1 belongs to: its contacts and what is
-- filed under them, in order, each beside the head at which it was read. If there is no such observation,
-- one row with the head alone. Each arm is a range of one index, as in projections/contact/identity.sql.
-- `offset 0` has the events of each row looked up, as in src/audit/past.sql.
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
    select coalesce(c.linked_id, c.id) as id
    from filed as f
    join contact as c on c.id = f.contact_id
),
member as (
    select l.id
    from leader as l
    union all
    select c.id
    from leader as l
    join contact as c on c.linked_id = l.id
),
-- Everything that was ever filed under one of them.
candidate as (
    select m.id
    from member as m
    union
    select e.observation_id
    from member as m
    cross join lateral (
        select e.observation_id
        from event as e
        where e.contact_id = m.id and e.kind = 'ContactObserved'
            and e.contact_id <> e.observation_id
        offset 0
    ) as e
    union
    select e.observation_id
    from member as m
    cross join lateral (
        select e.observation_id, e.kind
        from event as e
        where e.contact_id = m.id and e.kind <> 'ContactObserved'
        offset 0
    ) as e
    where e.kind in ('ContactRetired', 'ObservationMoved')
),
-- Where each of these is filed now: a rule change may have made a contact of it, or moved it. This is
-- materialized because otherwise it would be looked up again for each pair of an observation and a member.
refiled as materialized (
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
    select r.id, r.position, r.observed_at, r.email, r.phone_number, r.salt, r.contact_id,
        c.linked_id, c.updated_at
    from refiled as r
    join contact as c on c.id = r.contact_id
    where coalesce(c.linked_id, c.id) = (select l.id from leader as l)
)
select h.position as head_position, h.schema_version as "schema_version: ThisVersion",
    greatest(clock_timestamp(), h.recorded_at) as "now!",
    d.id as "id?", d.position as "position?", d.observed_at as "observed_at?",
    d.email, d.phone_number, d.salt is null as "is_erased!",
    d.contact_id as "contact_id?",
    d.linked_id, d.updated_at as "updated_at?"
from head as h
left join held as d on true
order by d.id
