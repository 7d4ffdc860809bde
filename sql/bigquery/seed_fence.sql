-- The first row of a topic and an events' table; nothing when another driver made it meanwhile.
merge {fence} as known
using (
    select
        @topic_id as topic_id,
        @events_table as events_table
) as new
on known.topic_id = new.topic_id and known.events_table = new.events_table
when not matched then
    insert (topic_id, state, next_offsets, former_offsets, streams, token, updated_at, events_table)
    values (@topic_id, 'done', @next_offsets, @next_offsets, '[]', @token, current_timestamp(), @events_table)
