delete from engagement_events where id = any(%(ids)s)
