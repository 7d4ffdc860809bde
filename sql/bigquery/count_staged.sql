-- The row versions of a staging table, each once.
select count(*) as staged
from (
    select distinct
        event_id,
        version
    from {staging}
)
