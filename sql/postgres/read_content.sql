-- The catalogue as the transform joins it (contract CONTENT); ids as text, since events carry them as text.
select
    id::text as content_id,
    slug,
    title,
    content_type,
    length_seconds,
    publish_ts
from content
