-- Run as superuser in the database `postgres`; repeated on every start, so that a changed password takes effect.
do $$
begin
    if not exists (select from pg_roles where rolname = 'engagement') then
        create role engagement login;
    end if;
    if not exists (select from pg_roles where rolname = 'debezium') then
        create role debezium login replication;
    end if;
end
$$;
alter role engagement password %(engagement_password)s;
alter role debezium password %(debezium_password)s;
