-- The newest row so far: what was inserted during a run is counted from here.
select coalesce(max(id), 0) from engagement_events
