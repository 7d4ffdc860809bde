-- What reconcile compares of the rows with ids `first` to `last`, by ranges of `width` ids: their number, and the sums of
-- the halves of their digests, each spelt as the sinks spell theirs (all columns but raw_payload, which a warehouse spells
-- in its own way). Parameters: first, last, width; start, end (timestamptz, end exclusive; NULL: all times).
select
    (id - %(first)s::bigint) / %(width)s::bigint as bucket,
    count(*) as events,
    sum(('x' || substr(digest, 1, 8))::bit(32)::bigint) as high,
    sum(('x' || substr(digest, 9, 8))::bit(32)::bigint) as low
from (
    select
        id,
        md5(concat_ws(
            '|',
            id,
            coalesce(content_id::text, '~'),
            coalesce(user_id::text, '~'),
            coalesce(event_type, '~'),
            case -- as read_rows.sql has it
                when isfinite(event_ts) and event_ts < timestamptz '294247-01-01 00:00:00Z'
                    then ((extract(epoch from event_ts) * 1000000)::bigint)::text
                else '~'
            end,
            coalesce(duration_ms::text, '~'),
            coalesce(device, '~')
        )) as digest
    from engagement_events
    where
        id between %(first)s and %(last)s
        and (%(start)s::timestamptz is null or (event_ts >= %(start)s and event_ts < %(end)s))
    offset 0 -- keeps the digest from being computed once for each half; it hinders no parallel workers
) as digested
group by bucket
