-- The first row of a topic; nothing when another driver made it meanwhile.
merge {fence} as known
using (select @topic_id as topic_id) as new
on known.topic_id = new.topic_id
when not matched then
    insert (topic_id, state, next_offsets, former_offsets, streams, token, updated_at)
    values (@topic_id, 'done', @next_offsets, @next_offsets, '[]', @token, current_timestamp())
