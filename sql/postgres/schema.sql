-- Run as `engagement`, the owner of the database; safe to repeat.
create table if not exists content (
    id uuid primary key,
    slug text not null unique,
    title text not null,
    content_type text not null check (content_type in ('podcast', 'newsletter', 'video')),
    length_seconds integer, -- a newsletter has none
    publish_ts timestamptz not null
);

create table if not exists engagement_events (
    id bigserial primary key,
    content_id uuid references content (id),
    user_id uuid,
    event_type text not null check (event_type in ('play', 'pause', 'finish', 'click')),
    event_ts timestamptz not null,
    duration_ms integer, -- a click has none
    device text,
    raw_payload jsonb
);

-- Backfill reads by date.
create index if not exists engagement_events_event_ts on engagement_events (event_ts);

-- Updates and deletes carry the whole row as it was: the board takes back what that row had added.
alter table engagement_events replica identity full;

-- Its id is what every sink knows an event by: under another one, the event would stay alive under the first for ever.
create or replace function keep_event_id() returns trigger language plpgsql as $$
begin
    raise exception 'the id of an event cannot change (% to %)', old.id, new.id
        using hint = 'Delete the event and insert it under its new id.';
end
$$;

create or replace trigger keep_event_id before update of id on engagement_events
for each row when (old.id is distinct from new.id) execute function keep_event_id();
