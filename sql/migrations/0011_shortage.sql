create table shortage (
    run_id integer not null,
    place integer not null,
    pieces integer not null,
    reason varchar not null,
    primary key (run_id, place)
);
comment on table shortage is 'Times that the memory was too small, and in what smaller pieces batches went through the graphs from then on.';
comment on column shortage.run_id is 'The run.';
comment on column shortage.place is 'Counts from 0 within the run.';
comment on column shortage.pieces is 'Images in a piece, at most; results may differ in the last bit from those of larger pieces.';
comment on column shortage.reason is 'What had no room.';
