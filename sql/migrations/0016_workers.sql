create table worker (
    run_id integer not null,
    worker varchar not null,
    node varchar not null,
    device varchar not null,
    machine varchar not null,
    runs_on varchar not null,
    threads integer not null,
    difference double,
    refused varchar
);
comment on table worker is 'The workers of a run on several GPUs or machines, one row for each that came.';
comment on column worker.run_id is 'The run.';
comment on column worker.worker is 'Its name in that run.';
comment on column worker.node is 'The machine''s name.';
comment on column worker.device is 'What it computes on.';
comment on column worker.machine is 'Processor and versions.';
comment on column worker.runs_on is 'What ran which model, and how.';
comment on column worker.threads is 'Batches that it makes side by side.';
comment on column worker.difference is 'Largest difference of what it makes of the batch that all make, from what most make: 0 where it is equal to the last bit.';
comment on column worker.refused is 'Why it was sent away; null if it was not.';
create table chunk_worker (chunk_id varchar not null, worker varchar not null);
comment on table chunk_worker is 'Who made a chunk, where several did.';
comment on column chunk_worker.chunk_id is 'The chunk.';
comment on column chunk_worker.worker is 'The worker''s name in the chunk''s run.';
