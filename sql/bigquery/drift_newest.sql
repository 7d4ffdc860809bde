-- One row per event: its newest version with the halves of its digest, and how many of its rows repeat a version.
select
    event_id,
    version,
    op,
    unix_micros(event_timestamp) as event_us,
    event_timestamp,
    extra,
    cast(concat('0x', substr(digest, 1, 8)) as int64) as high,
    cast(concat('0x', substr(digest, 9, 8)) as int64) as low
from (
    select
        event_id,
        max(version) as version,
        max_by(op, version) as op,
        max_by(event_timestamp, version) as event_timestamp,
        max_by(digest, version) as digest,
        sum(copies) - count(*) as extra
    from (
        select
            event_id,
            version,
            count(*) as copies,
            max_by(op, processed_timestamp) as op,
            max_by(event_timestamp, processed_timestamp) as event_timestamp,
            max_by(
                to_hex(md5(concat(
                    cast(event_id as string), '|',
                    coalesce(content_id, '~'), '|',
                    coalesce(user_id, '~'), '|',
                    coalesce(event_type, '~'), '|',
                    coalesce(cast(unix_micros(event_timestamp) as string), '~'), '|',
                    coalesce(cast(duration_ms as string), '~'), '|',
                    coalesce(device, '~')
                ))),
                processed_timestamp
            ) as digest
        from {events}
        where {wanted}
        group by event_id, version
    )
    group by event_id
)
