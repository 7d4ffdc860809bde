-- DuckDB: what a sink holds (stored_rows) against rows.sql, saved as CSV. Counts event ids, one row.
-- Parameters: rows (the CSV file), after (bigint): only events with a greater id, exact (boolean): whether the sink keeps
-- JSON letter by letter; else spaces between its parts do not count.
with stored as (
    select
        *,
        row_number() over (partition by event_id order by version desc) as age,
        count(*) over (partition by event_id, version) as copies
    from stored_rows
    where event_id > $after
),

found as (
    select * from stored
    where age = 1 and op <> 'd'
),

expected as (
    select *
    from read_csv(
        $rows,
        header = true,
        allow_quoted_nulls = false,
        columns = {
            'event_id': 'bigint', 'content_id': 'varchar', 'user_id': 'varchar', 'event_type': 'varchar',
            'event_us': 'bigint', 'duration_ms': 'integer', 'device': 'varchar', 'raw_payload': 'varchar',
            'slug': 'varchar', 'title': 'varchar', 'length_seconds': 'integer',
            'engagement_seconds': 'decimal(12, 3)', 'engagement_pct': 'decimal(14, 2)'
        }
    )
)

select
    (select count(*) from stored) as rows,
    (select count(*) from stored where copies > 1) as doubled,
    count(*) filter (where found.event_id is null) as lost,
    count(*) filter (where expected.event_id is null) as phantom,
    count(*) filter (
        where found.event_id = expected.event_id and (
            found.content_id is distinct from expected.content_id
            or found.user_id is distinct from expected.user_id
            or found.event_type is distinct from expected.event_type
            or epoch_us(found.event_ts) is distinct from expected.event_us
            or found.duration_ms is distinct from expected.duration_ms
            or found.device is distinct from expected.device
            or case
                when $exact then found.raw_payload is distinct from expected.raw_payload
                else json(found.raw_payload) is distinct from json(expected.raw_payload)
            end
            or found.slug is distinct from expected.slug
            or found.title is distinct from expected.title
            or found.length_seconds is distinct from expected.length_seconds
            or found.engagement_seconds is distinct from expected.engagement_seconds
            or found.engagement_pct is distinct from expected.engagement_pct
        )
    ) as different
from found
full join expected on found.event_id = expected.event_id
