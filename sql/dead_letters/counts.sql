select code, coalesce(sink, 'transform') as sink, status, count(*) as letters, min(kafka_ts) as oldest
from letters
where {condition}
group by code, coalesce(sink, 'transform'), status
order by letters desc, code, sink, status
