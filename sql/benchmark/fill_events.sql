-- History by the numbers: two events a second. Parameters: first, last, contents.
insert into engagement_events (content_id, user_id, event_type, event_ts, duration_ms, device, raw_payload)
select
    case when n %% 50 = 0 then null else md5('content ' || n %% %(contents)s)::uuid end,
    case when n %% 20 = 0 then null else md5('user ' || n %% 50000)::uuid end,
    (array['play', 'pause', 'finish', 'click'])[1 + n %% 4],
    timestamptz '2025-08-01 00:00Z' + n * interval '0.5 seconds',
    case when n %% 4 = 3 then null else ((n::bigint * 7919) %% 4000000)::int end,
    (array['ios', 'android', 'web', 'tv', null])[1 + n %% 5],
    jsonb_build_object('session', md5(n::text), 'position_ms', n %% 100000, 'app', '4.2.0')
from generate_series(%(first)s, %(last)s) as n
