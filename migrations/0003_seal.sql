-- The Merkle tree over the events, and what was signed of it. docs/proof.md describes both.

-- C2SP tlog-tiles: up to 256 hashes of 32 bytes. The last tile of a level grows in place,
-- with the checkpoint that covers it and in the same commit.
create table tile (
    level smallint not null,
    index bigint not null,
    hashes bytea not null,
    constraint tile_pkey primary key (level, index)
);

-- Hashes do not compress: trying costs time.
alter table tile alter column hashes set storage external;

create table checkpoint (
    -- The number of events covered, which is the position of the last of them.
    size bigint not null,
    root bytea not null,
    -- C2SP tlog-checkpoint, a signed note.
    note text not null,
    signed_at timestamptz not null,
    constraint checkpoint_pkey primary key (size)
);

-- Grants come first, triggers second, as for events.
revoke update, delete, truncate on checkpoint from public, current_user;
revoke delete, truncate on tile from public, current_user;

create trigger append_only
before update or delete or truncate on checkpoint
for each statement execute function refuse_to_rewrite();

alter table checkpoint enable always trigger append_only;
