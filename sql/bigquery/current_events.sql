-- The newest version of every event, deleted ones left out. A backfill's rows have version 0 and are older than any
-- change; of the same version (stored twice by a backfill that was repeated) one is taken.
select * except (place)
from (
    select
        *,
        row_number() over (
            partition by event_id
            order by version desc, processed_timestamp desc, kafka_partition desc, kafka_offset desc
        ) as place
    from {events}
)
where place = 1 and op != 'd'
