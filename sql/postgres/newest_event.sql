-- The newest event that belongs to a content, for the reader that measures when it shows.
SELECT id, content_id::text
FROM engagement_events
WHERE content_id IS NOT NULL
ORDER BY id DESC
LIMIT 1;
