-- An observation before the first number, after the head, or between the number $1 and that of the first
-- observation that an event after position $2 observed: after $1, numbers may have been skipped.
(select id as "id!" from observation where id < 1 order by id limit 1)
union all
(
    select o.id
    from observation as o
    where o.id > $1 and o.id < coalesce(
        (
            select e.observation_id
            from event as e
            where e.position > $2 and e.kind = 'ContactObserved'
            order by e.position
            limit 1
        ),
        9223372036854775807
    )
    order by o.id
    limit 1
)
union all
(
    -- Not a join: that would read all observations.
    select o.id
    from observation as o
    where o.id > (select h.observation_id from head as h)
    order by o.id
    limit 1
)
limit 1
