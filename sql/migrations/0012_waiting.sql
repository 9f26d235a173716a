alter table stage_stat add column lanes integer default 1;
alter table stage_stat add column input_seconds double default 0;
alter table stage_stat add column room_seconds double default 0;
comment on column stage_stat.lanes is 'Workers, or streams, that it had.';
comment on column stage_stat.input_seconds is 'Time in which they waited for what another stage makes, summed over them.';
comment on column stage_stat.room_seconds is 'Time in which they waited for room, since batches before were not through, summed over them.';
