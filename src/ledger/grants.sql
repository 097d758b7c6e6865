-- What the service may do. It appends and reads; it cannot rewrite.
do $$
begin
    execute format(
        'grant usage on schema %I to identity_ledger, identity_ledger_eraser', current_schema()
    );
end
$$;
-- Earlier versions gave all columns.
revoke update on head, idempotency from identity_ledger;
grant select, insert on event, observation to identity_ledger;
grant select on rules to identity_ledger;
grant select, update (position, observation_id, recorded_at) on head to identity_ledger;
-- To lock keys before it deletes them, it needs the right to update a column. It can do no more with that
-- than by deleting and inserting.
grant select, insert, update (key), delete on idempotency to identity_ledger;
grant select, insert, update on tile to identity_ledger;
grant select, insert on checkpoint to identity_ledger;
grant select, insert on access to identity_ledger;
-- What erasing may do, on top of appending its event: take away what is personal.
grant select, insert on event to identity_ledger_eraser;
grant select, update (email, phone_number, salt) on observation to identity_ledger_eraser;
grant select, delete on idempotency to identity_ledger_eraser;
grant select, update (position, recorded_at) on head to identity_ledger_eraser;
-- Where it is missing, until it is rebuilt, there is nobody to grant it to.
do $$
begin
    if to_regclass('contact') is not null then
        revoke update on contact from identity_ledger;
        grant select, insert, update (linked_id, link_precedence, updated_at) on contact to identity_ledger;
        grant select, update on contact to identity_ledger_eraser;
    end if;
end
$$;
