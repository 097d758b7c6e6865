-- The contact table: what the events and the observations fold into. It can be thrown away
-- and folded again at any time (`identity-ledger rebuild`), which makes `contact_next`, by
-- that replacement in this text, and swaps it in.

create table contact (
    id bigint not null,
    linked_id bigint,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    -- What `linked_id` says, for those who read the table. Written, since Postgres would compile the expression of
    -- a generated column again for each append.
    link_precedence text not null,
    email text,
    phone_number text,
    -- A key stands with its holder, the oldest contact that has it, and nowhere else. Keys are only
    -- ever compared for being equal: by bytes, an index costs less, and an update of the operating
    -- system's locales cannot break it.
    email_key text collate "C",
    phone_key text collate "C",
    -- The normal form of a value that never links stands with every contact that has it.
    unlinked_email text,
    unlinked_phone text
);

-- Statistics would keep copies of values, which are only ever found by an index.
alter table contact
    alter column email set statistics 0,
    alter column phone_number set statistics 0,
    alter column email_key set statistics 0,
    alter column phone_key set statistics 0,
    alter column unlinked_email set statistics 0,
    alter column unlinked_phone set statistics 0;
