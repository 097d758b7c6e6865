-- The version of the tables, which is that of the last migration: whoever migrates sets it. A node
-- of another version neither appends nor answers.
alter table head add column schema_version bigint not null default 8;

-- Where losses were accepted: positions have a gap before each.
create index event_restored on event (position) where kind = 'LedgerRestored';
