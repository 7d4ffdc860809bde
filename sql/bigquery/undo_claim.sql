-- A claim's rows are not in the table and will never be.
update {fence}
set state = 'done', next_offsets = former_offsets, updated_at = current_timestamp()
where topic_id = @topic_id and state = 'claimed' and token = @token
