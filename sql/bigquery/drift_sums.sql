-- The newest versions of live events by ranges of ids: their number and the sums of their digests' halves; and how many
-- rows repeat a version. Parameters: first_id, last_id, width; event_from, event_to (NULL: all times).
select
    bucket,
    countif(counts) as events,
    sum(if(counts, high, 0)) as high,
    sum(if(counts, low, 0)) as low,
    sum(extra) as extra
from (
    select
        high,
        low,
        extra,
        div(distance, @width) as bucket,
        op != 'd'
        and (@event_from is null or (event_timestamp >= @event_from and event_timestamp < @event_to)) as counts
    from (
        select
            *,
            event_id - @first_id as distance
        from ({newest})
    )
)
group by bucket
