-- An event before the first position or after the head.
(select position as "position!" from event where position < 1 order by position limit 1)
union all
(
    -- Not a join: that would read all events.
    select e.position
    from event as e
    where e.position > (select h.position from head as h)
    order by e.position
    limit 1
)
limit 1
