-- The last position whose event was not recorded after the time $1, or 0 if there is none. The times
-- of events never run backwards, so a binary search finds it, with one probe of the primary key a step.
with recursive search (low, high) as (
    select 0::bigint, h.position
    from head as h
    union all
    select
        case when e.recorded_at <= $1 then s.low + (s.high - s.low + 1) / 2 else s.low end,
        case when e.recorded_at <= $1 then s.high else s.low + (s.high - s.low + 1) / 2 - 1 end
    from search as s
    -- The next event, as an accepted loss leaves a gap in the positions.
    cross join lateral (
        select e.recorded_at
        from event as e
        where e.position >= s.low + (s.high - s.low + 1) / 2
        order by e.position
        limit 1
    ) as e
    where s.low < s.high
)
select s.low as "position!", $1 > clock_timestamp() as "is_to_come!",
    h.schema_version as "schema_version: ThisVersion"
from search as s
cross join head as h
where s.low = s.high
