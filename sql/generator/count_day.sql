select count(*) from engagement_events where event_ts >= %(start)s and event_ts < %(end)s
