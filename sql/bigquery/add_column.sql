-- A column that an older table lacks; its rows keep NULL there.
alter table {table} add column if not exists {column} {kind}
