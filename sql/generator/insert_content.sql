-- The generator's catalogue; contents that are there already stay as they are.
insert into content (id, slug, title, content_type, length_seconds, publish_ts)
select id, slug, title, content_type, length_seconds, publish_ts
from json_to_recordset(%(rows)s) as given (
    id uuid, slug text, title text, content_type text, length_seconds int, publish_ts timestamptz
)
on conflict do nothing
