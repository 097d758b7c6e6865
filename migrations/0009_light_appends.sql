-- Postgres reads and compiles each check constraint, each generated column and the condition of each partial
-- index again in every statement that writes to a table. For a request that is alone, that was a twentieth of
-- its time.

-- One row: an index that an update of the row need not look at says so as well as a check.
alter table head drop column only_row;
create unique index head_has_one_row on head ((true));
-- Without a primary key, a publication of all tables would have every append refused.
alter table head replica identity full;

-- An observation has all that its event commits to, which verify compares, or was erased and has nothing of
-- it, which is checked when it is erased.
alter table observation drop constraint observation_is_whole_or_erased;
create or replace function refuse_all_but_erasing() returns trigger
language plpgsql
as $$
begin
    if (new.id, new.position, new.observed_at) <> (old.id, old.position, old.observed_at)
        or num_nonnulls(new.email, new.phone_number, new.salt) > 0
    then
        raise exception 'update of observation is refused: it can only be erased'
            using errcode = 'insufficient_privilege';
    end if;
    return new;
end
$$;

-- Events of rare kinds. Last, since it takes time, and all locks are held by now.
drop index event_rules, event_erased, event_restored;
create index event_kind on event (kind, position)
where kind in ('RulesActivated', 'ContactErased', 'LedgerRestored');
