-- Numbers the reads on from the last one. Where another node does the same at once, the primary
-- key lets one of them through, and the other tries again: so numbers are in commit order, and
-- whoever goes on from the last one that was seen misses none.
insert into access (
    id, read_at, asked_by, role, route, contact_id, other_contact_id, position, purpose
)
select
    coalesce((select a.id from access as a order by a.id desc limit 1), 0) + r.n,
    clock_timestamp() - r.age_us * interval '1 microsecond',
    r.asked_by, r.role, r.route, r.contact_id, r.other_contact_id, r.position, r.purpose
from unnest(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::text[]
) with ordinality as r (
    age_us, asked_by, role, route, contact_id, other_contact_id, position, purpose, n
)
