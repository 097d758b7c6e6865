-- What auditors find events by. Each is as small as its question allows, since every append pays
-- for it: an observation that introduces a new customer pays for none, one that repeats what is
-- known for `event_repeat` alone, a link for `event_link` and `event_primary`.

-- What was decided of a contact.
create index event_link on event (contact_id, position)
where kind <> 'ContactObserved';

-- What was linked to a primary.
create index event_primary on event (primary_id, position)
where kind <> 'ContactObserved';

-- Observations that are filed under another contact. That of the contact itself is found by the
-- position in `observation`.
create index event_repeat on event (contact_id, position)
where kind = 'ContactObserved' and contact_id <> observation_id;
