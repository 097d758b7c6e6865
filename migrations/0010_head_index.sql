-- Postgres before 16 works out at each update on which columns the indexes of the table are, unless it remembers
-- at least one: two microseconds of each append. This one hardly ever changes.
drop index head_has_one_row;
create unique index head_has_one_row on head ((true)) include (rules_digest);
