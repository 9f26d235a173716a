alter table stage_stat drop column wall_seconds;

create table timing (
    run_id integer not null,
    wave integer not null,
    work varchar not null check (work in ('images', 'captions')),
    seconds double not null
);
comment on table timing is 'How long a run took for a wave''s images, or for the captions of the discovery.';
comment on column timing.run_id is 'The run.';
comment on column timing.wave is 'The wave; 0 is the discovery.';
comment on column timing.work is 'images (made, judged and stored) or captions.';
comment on column timing.seconds is 'Of the clock on the wall.';
