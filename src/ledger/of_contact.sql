-- Up to $5 events of the contact $3 after position $1 and up to $2, of the kind $4 if that is
-- given. There is no `or` across columns, so that each arm is a range of one index. An arm that has no event
-- of that kind is not read.
with named as (
    select o.position
    from observation as o
    where o.id = $3 and o.position > $1 and o.position <= $2
    union
    (
        select e.position
        from event as e
        where e.contact_id = $3 and e.position > $1 and e.position <= $2
            and e.kind = 'ContactObserved' and e.contact_id <> e.observation_id
            and ($4::text is null or $4 = 'ContactObserved')
        order by e.position
        limit $5
    )
    union
    (
        select e.position
        from event as e
        where e.contact_id = $3 and e.position > $1 and e.position <= $2
            and e.kind <> 'ContactObserved'
            and ($4::text is null or e.kind = $4) and $4 is distinct from 'ContactObserved'
        order by e.position
        limit $5
    )
    union
    (
        select e.position
        from event as e
        where e.primary_id = $3 and e.position > $1 and e.position <= $2
            and e.kind <> 'ContactObserved'
            and ($4::text is null or e.kind = $4) and $4 is distinct from 'ContactObserved'
        order by e.position
        limit $5
    )
    union
    (
        select e.position
        from event as e
        where e.observation_id = $3 and e.position > $1 and e.position <= $2
            and e.kind in ('ContactRetired', 'ObservationMoved')
            and ($4::text is null or e.kind = $4)
        order by e.position
        limit $5
    )
)
select e.position, e.kind, e.line, e.observation_id,
    o.email as "email?", o.phone_number as "phone_number?"
from named as n
join event as e on e.position = n.position
left join observation as o on o.id = e.observation_id
where $4::text is null or e.kind = $4
order by e.position
limit $5
