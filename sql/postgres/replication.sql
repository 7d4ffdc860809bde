-- Run as `engagement`, after schema.sql; safe to repeat. What Debezium may see: one table, nothing else.
revoke connect on database engagement from public;
grant connect on database engagement to debezium;
grant usage on schema public to debezium;
grant select on engagement_events to debezium;

do $$
begin
    if not exists (select from pg_publication where pubname = 'engagement') then
        create publication engagement for table engagement_events;
    end if;
end
$$;
