alter table stage_stat add column queued_seconds double default 0;
comment on column stage_stat.queued_seconds is 'Time for which batches lay ready for it before it took them, summed over them.';
