-- Up to $4 events of the kind $3, which is among those that have an index, after position $1 and up to $2.
with named as (
    select e.position
    from event as e
    where e.kind = $3 and e.kind in ('RulesActivated', 'ContactErased', 'LedgerRestored')
        and e.position > $1 and e.position <= $2
    order by e.position
    limit $4
)
select e.position, e.kind, e.line, e.observation_id,
    o.email as "email?", o.phone_number as "phone_number?"
from named as n
join event as e on e.position = n.position
left join observation as o on o.id = e.observation_id
order by e.position
limit $4
