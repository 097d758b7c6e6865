-- What must never be lost: the events, the observations they commit to, the rules
-- they were decided under, and the head. The contact table is in projections/.

create table event (
    position bigint not null,
    contact_id bigint,
    observation_id bigint,
    primary_id bigint,
    recorded_at timestamptz not null,
    kind text not null,
    -- The event itself: canonical JSON (RFC 8785). The other columns are copies of it.
    line text not null,
    constraint event_pkey primary key (position)
);

create table observation (
    id bigint not null,
    -- Of its ContactObserved event.
    position bigint not null,
    observed_at timestamptz not null,
    email text,
    phone_number text,
    salt bytea not null,
    constraint observation_pkey primary key (id)
);

create table rules (
    digest text not null,
    name text not null,
    version integer not null,
    document text not null,
    constraint rules_pkey primary key (digest)
);

-- One row. Whoever appends moves it, from the position that the decision was made at.
create table head (
    only_row boolean not null default true,
    position bigint not null,
    observation_id bigint not null,
    recorded_at timestamptz not null,
    rules_digest text not null,
    constraint head_pkey primary key (only_row),
    constraint head_has_one_row check (only_row)
) with (fillfactor = 10);

-- Grants come first: the owner takes the right to change history from itself, too.
revoke update, delete, truncate on event, rules from public, current_user;
revoke delete, truncate on head from public, current_user;

-- Triggers come second, for a superuser, whom grants do not bind. They stop a mistake, not
-- a determined superuser: the ledger is tamper-evident, not tamper-proof.
create function refuse_to_rewrite() returns trigger
language plpgsql
as $$
begin
    raise exception '% of % is refused: the ledger is append-only', tg_op, tg_table_name
        using errcode = 'insufficient_privilege';
end
$$;

create trigger append_only
before update or delete or truncate on event
for each statement execute function refuse_to_rewrite();

create trigger append_only
before update or delete or truncate on rules
for each statement execute function refuse_to_rewrite();

alter table event enable always trigger append_only;
alter table rules enable always trigger append_only;
