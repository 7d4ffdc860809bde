-- Take a step from exactly the state that was read: of two drivers, one changes no row.
update {fence}
set
    state = @state,
    former_offsets = next_offsets,
    next_offsets = @next_offsets,
    streams = @streams,
    token = @token,
    batch = @batch,
    places = @places,
    events_table = @events_table,
    processed_timestamp = @processed,
    event_from = @event_from,
    event_to = @event_to,
    updated_at = current_timestamp()
where topic_id = @topic_id and state = 'done' and token = @read_token
