-- Up to $4 events of the kind $3, which has an index of its own, after position $1 and up to $2. Only the arm
-- of that kind is read.
with named as (
    (
        select e.position
        from event as e
        where $3 = 'RulesActivated' and e.kind = 'RulesActivated'
            and e.position > $1 and e.position <= $2
        order by e.position
        limit $4
    )
    union all
    (
        select e.position
        from event as e
        where $3 = 'ContactErased' and e.kind = 'ContactErased'
            and e.position > $1 and e.position <= $2
        order by e.position
        limit $4
    )
    union all
    (
        select e.position
        from event as e
        where $3 = 'LedgerRestored' and e.kind = 'LedgerRestored'
            and e.position > $1 and e.position <= $2
        order by e.position
        limit $4
    )
)
select e.position, e.kind, e.line, e.observation_id,
    o.email as "email?", o.phone_number as "phone_number?"
from named as n
join event as e on e.position = n.position
left join observation as o on o.id = e.observation_id
order by e.position
limit $4
