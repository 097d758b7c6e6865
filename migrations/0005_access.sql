-- Which auditors and operators read personal data, and why. It holds nothing of what they read,
-- and no identifier that they asked for.
create table access (
    -- No gaps, in commit order, as positions are.
    id bigint not null,
    read_at timestamptz not null,
    -- The name of a token, and its role then.
    asked_by text not null,
    role text not null,
    -- Method and pattern, such as GET /contacts/{id}.
    route text not null,
    -- The numbers that were asked of, or what a lookup led to.
    contact_id bigint,
    other_contact_id bigint,
    -- That the answer holds at, or that a page begins after.
    position bigint,
    -- As the header said.
    purpose text,
    constraint access_pkey primary key (id)
);

-- Grants come first, triggers second, as for events.
revoke update, delete, truncate on access from public, current_user;

create trigger append_only
before update or delete or truncate on access
for each statement execute function refuse_to_rewrite();

alter table access enable always trigger append_only;
