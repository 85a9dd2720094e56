-- Live channels: payloads that are too large for NOTIFY, which sends their ids. Each is kept for a day.
-- works_with: 1

create table {schema}.notice (
  id       uuid primary key,
  at       timestamptz not null default now(),
  payload  text not null
);

create index notice_at on {schema}.notice (at);
