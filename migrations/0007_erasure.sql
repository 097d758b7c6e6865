-- What forgetting a person needs. docs/personal-data.md says what is left.

-- Statistics would keep copies of values: Postgres shows the commonest, and some in between. These
-- columns are only ever found by an index. Setting the type drops what was gathered so far.
alter table observation
    alter column email set statistics 0,
    alter column phone_number set statistics 0,
    alter column salt set statistics 0;
alter table observation
    alter column email type text,
    alter column phone_number type text,
    alter column salt type bytea;

-- An observation has all that its event commits to, or was erased and has nothing of it.
alter table observation alter column salt drop not null;
alter table observation add constraint observation_is_whole_or_erased
    check ((num_nonnulls(email, phone_number) > 0) = (salt is not null));

-- The numbers that were erased.
create index event_erased on event (position) where kind = 'ContactErased';

-- Grants come first: nobody else may update, and nobody delete.
revoke delete, truncate on observation from public, current_user;

-- Triggers come second. All that may become of an observation is that it is erased.
create function refuse_all_but_erasing() returns trigger
language plpgsql
as $$
begin
    if (new.id, new.position, new.observed_at) <> (old.id, old.position, old.observed_at)
        or new.salt is not null
    then
        raise exception 'update of observation is refused: it can only be erased'
            using errcode = 'insufficient_privilege';
    end if;
    return new;
end
$$;

create trigger erased_only
before update on observation
for each row execute function refuse_all_but_erasing();

create trigger append_only
before delete or truncate on observation
for each statement execute function refuse_to_rewrite();

alter table observation enable always trigger erased_only;
alter table observation enable always trigger append_only;
