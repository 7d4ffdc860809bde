-- One row of each version of some events. One transaction: a crash leaves all copies or none. Ids
-- are written out: scripts take no parameters everywhere.
begin transaction;
create temp table kept as
select * except (copy)
from (
    select
        *,
        row_number() over (partition by event_id, version order by processed_timestamp desc) as copy
    from {events}
    where event_id in ({ids})
)
where copy = 1;
delete from {events}
where event_id in ({ids});
insert into {events} ({columns})
select {columns} from kept;
commit transaction;
