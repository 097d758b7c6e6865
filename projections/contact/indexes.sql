-- Unique: were one customer ever to get two primaries, the database would refuse the batch.
alter table contact add constraint contact_pkey primary key (id);
create unique index contact_email_key on contact (email_key) where email_key is not null;
create unique index contact_phone_key on contact (phone_key) where phone_key is not null;
create index contact_linked_id on contact (linked_id) where linked_id is not null;
