-- A long snapshot, such as that of a backup, leaves an old version of the row for each append. The row is in the
-- last of their pages then, and stays there, so no vacuum can cut them off. By this index it is found without
-- reading them. Appends do not change what it is on.
-- Postgres before 16 also works out at each update on which columns the indexes of the table are, unless it
-- remembers at least one: two microseconds of each append.
create index head_schema_version on head (schema_version);
