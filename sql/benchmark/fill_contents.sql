-- Contents for rows to be about. Parameter: contents.
insert into content
select
    md5('content ' || n)::uuid,
    'benchmark-' || n,
    'Benchmark ' || n,
    (array['podcast', 'newsletter', 'video'])[1 + n %% 3],
    case when n %% 3 = 1 then null else 60 + n end,
    timestamptz '2025-01-01 00:00Z'
from generate_series(0, %(contents)s - 1) as n
on conflict do nothing
