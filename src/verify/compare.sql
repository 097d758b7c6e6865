-- The next $2 contacts from $1 on, each beside its observation, and the head with each. Past the last
-- contact, one row with the head alone. A time that no calendar has could not be read, so it is moved to
-- where it is found to be wrong.
select h.position, h.rules_digest, h.observation_id,
    least(greatest(h.recorded_at, '0001-01-01'), '9999-12-31') as "recorded_at!",
    case
        when c.deleted_at is not null
        then least(greatest(c.deleted_at, '0001-01-01'), '9999-12-31')
    end as deleted_at,
    o.position as "observed_position?", c.id as "id?", c.linked_id,
    c.link_precedence as "link_precedence?",
    least(greatest(c.created_at, '0001-01-01'), '9999-12-31') as created_at,
    least(greatest(c.updated_at, '0001-01-01'), '9999-12-31') as updated_at,
    c.email, c.phone_number, c.email_key, c.phone_key, c.unlinked_email, c.unlinked_phone,
    o.observed_at as "observed_at?", o.email as observed_email,
    o.phone_number as observed_phone_number
from head as h
left join (
    select id, linked_id, link_precedence, created_at, updated_at, deleted_at,
        email, phone_number, email_key, phone_key,
        unlinked_email, unlinked_phone
    from contact
    where id >= $1
    order by id
    limit $2
) as c on true
left join observation as o on o.id = c.id
order by c.id
