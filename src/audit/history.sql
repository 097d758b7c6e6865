-- Up to $3 events after position $2 that made the identity of observation $1 what it is, in order:
-- those that observed its contacts or filed something under them, those that linked them or moved them
-- with their primary of then, and those that took contacts away again that had been linked to one of
-- them. `offset 0` has the events of each row looked up: Postgres could also read all events and look for
-- their rows, and takes that for cheaper if it expects few events of a kind.
with recursive filed as (
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
decided as (
    select e.position, e.contact_id, e.observation_id, e.primary_id, e.kind
    from member as m
    cross join lateral (
        select e.position, e.contact_id, e.observation_id, e.primary_id, e.kind
        from event as e
        where e.contact_id = m.id and e.kind <> 'ContactObserved'
        offset 0
    ) as e
),
stay as (
    select d.position, d.primary_id,
        lead(d.position) over (partition by d.contact_id order by d.position) as until
    from decided as d
    where d.kind not in ('ContactRetired', 'ObservationMoved')
),
-- A primary that members were with, and that left them since, may have moved them before.
moved (position, primary_id, until) as (
    select s.position, s.primary_id, s.until
    from stay as s
    cross join leader as l
    where not exists (
        select
        from contact as c
        where c.id = s.primary_id and (c.id = l.id or c.linked_id = l.id)
    )
    union
    select next.position, next.primary_id, m.until
    from moved as m
    cross join lateral (
        select e.position, e.primary_id, e.kind
        from event as e
        where e.contact_id = m.primary_id and e.position > m.position
            and e.kind <> 'ContactObserved'
            and e.kind not in ('ContactRetired', 'ObservationMoved')
        order by e.position
        limit 1
    ) as next
    where next.kind = 'PrimaryDemoted' and (m.until is null or next.position < m.until)
),
came as (
    select e.position, e.contact_id
    from member as m
    cross join lateral (
        select e.position, e.contact_id
        from event as e
        where e.primary_id = m.id and e.kind <> 'ContactObserved'
        offset 0
    ) as e
),
went as (
    select away.position
    from came as c
    cross join lateral (
        (
            select e.position
            from event as e
            where e.contact_id = c.contact_id and e.position > c.position
                and e.kind <> 'ContactObserved'
                and e.kind not in ('ContactRetired', 'ObservationMoved')
            order by e.position
            limit 1
        )
        union all
        (
            select e.position
            from event as e
            where e.observation_id = c.contact_id and e.position > c.position
                and e.kind in ('ContactRetired', 'ObservationMoved')
            order by e.position
            limit 1
        )
    ) as away
),
number as (
    select m.id
    from member as m
    union
    select d.observation_id
    from decided as d
    where d.kind in ('ContactRetired', 'ObservationMoved')
),
found as (
    select d.position
    from decided as d
    where d.position > $2
    union
    select m.position
    from moved as m
    where m.position > $2
    union
    select c.position
    from came as c
    where c.position > $2
    union
    select w.position
    from went as w
    where w.position > $2
    union
    select o.position
    from number as n
    join observation as o on o.id = n.id
    where o.position > $2
    union
    select e.position
    from number as n
    cross join lateral (
        select e.position
        from event as e
        where e.observation_id = n.id and e.kind in ('ContactRetired', 'ObservationMoved')
            and e.position > $2
        offset 0
    ) as e
    union
    -- What a rule change filed here, another one may have made a contact again.
    select e.position
    from number as n
    cross join lateral (
        select e.position
        from event as e
        where e.contact_id = n.id and e.kind = 'ContactIntroduced' and e.position > $2
        offset 0
    ) as e
    union
    select repeated.position
    from member as m
    cross join lateral (
        select e.position
        from event as e
        where e.contact_id = m.id and e.position > $2
            and e.kind = 'ContactObserved' and e.contact_id <> e.observation_id
        order by e.position
        limit $3
    ) as repeated
)
select e.position, e.kind, e.line, e.observation_id,
    o.email as "email?", o.phone_number as "phone_number?"
from found as f
join event as e on e.position = f.position
left join observation as o on o.id = e.observation_id
order by e.position
limit $3
