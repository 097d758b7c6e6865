-- What happened up to position $2 to the observations $1 and to all contacts that had been linked to
-- theirs by then, in order. If $3, with up to $4 observations that were filed under them. With all
-- activations of rules. No `or` across columns: each arm is a range of one index. `offset 0` has the
-- events of each row looked up: Postgres could also read all events and look for their rows, and takes
-- that for cheaper if it expects few events of a kind.
with recursive asked as (
    select n.id
    from unnest($1::bigint[]) as n (id)
),
related (id) as (
    (
        select a.id
        from asked as a
        union
        select e.contact_id
        from asked as a
        join observation as o on o.id = a.id
        join event as e on e.position = o.position
        where e.position <= $2
    )
    union
    select other.id
    from related as r
    cross join lateral (
        select e.primary_id as id
        from event as e
        where e.contact_id = r.id and e.kind <> 'ContactObserved' and e.position <= $2
        union all
        select e.contact_id
        from event as e
        where e.primary_id = r.id and e.kind <> 'ContactObserved' and e.position <= $2
        union all
        select e.contact_id
        from event as e
        where e.observation_id = r.id and e.position <= $2
            and e.kind in ('ContactRetired', 'ObservationMoved')
    ) as other
),
decided as (
    select e.position, e.observation_id, e.kind
    from related as r
    cross join lateral (
        select e.position, e.observation_id, e.kind
        from event as e
        where e.contact_id = r.id and e.kind <> 'ContactObserved' and e.position <= $2
        offset 0
    ) as e
),
number as (
    select r.id
    from related as r
    union
    select d.observation_id
    from decided as d
    where $3::boolean and d.kind in ('ContactRetired', 'ObservationMoved')
    union
    (
        select e.observation_id
        from related as r
        cross join lateral (
            select e.observation_id
            from event as e
            where e.contact_id = r.id and e.kind = 'ContactObserved'
                and e.contact_id <> e.observation_id and e.position <= $2
            offset 0
        ) as e
        where $3::boolean
        limit $4
    )
),
found as (
    select d.position
    from decided as d
    union
    select o.position
    from number as n
    join observation as o on o.id = n.id
    where o.position <= $2
    union
    select e.position
    from number as n
    cross join lateral (
        select e.position
        from event as e
        where e.observation_id = n.id and e.kind in ('ContactRetired', 'ObservationMoved')
            and e.position <= $2
        offset 0
    ) as e
    union
    -- A number that was filed here may have become a contact of another identity.
    select e.position
    from number as n
    cross join lateral (
        select e.position
        from event as e
        where e.contact_id = n.id and e.kind = 'ContactIntroduced' and e.position <= $2
        offset 0
    ) as e
    where $3::boolean
    union
    select e.position
    from event as e
    where e.kind = 'RulesActivated' and e.position <= $2
)
select e.position, e.line, o.email as "email?", o.phone_number as "phone_number?"
from found as f
join event as e on e.position = f.position
left join observation as o on o.id = e.observation_id
order by e.position
