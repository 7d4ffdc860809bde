-- What a staging table holds and the events' table lacks. A row that was staged twice (a task that Spark repeated) is
-- taken once. Parameters: event_from, event_to, the bounds of the staged rows' times: only their days are looked at.
insert into {events} ({columns})
select {values}
from (
    select
        *,
        row_number() over (partition by event_id, version order by processed_timestamp desc) as copy
    from {staging}
) as staged
where
    copy = 1
    and not exists (
        select 1
        from {events} as held
        where
            {same}
            and (
                held.event_timestamp is null
                or (
                    held.event_timestamp >= timestamp_trunc(@event_from, day)
                    and held.event_timestamp < timestamp_add(timestamp_trunc(@event_to, day), interval 1 day)
                )
            )
    )
