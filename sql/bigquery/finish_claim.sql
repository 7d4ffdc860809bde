-- A claim's rows are in the table.
update {fence}
set state = 'done', updated_at = current_timestamp()
where topic_id = @topic_id and state = 'claimed' and token = @token
