-- What a change of the rules needs to find.

-- Where an observation is filed that a rule change has moved: the last of these says it.
create index event_refiled on event (observation_id, position)
where kind in ('ContactRetired', 'ObservationMoved');

create index event_rules on event (position) where kind = 'RulesActivated';

-- The versions of the crates that make keys by these rules; empty where the rules use none.
alter table rules add column normaliser text not null default '';
