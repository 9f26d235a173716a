create table caption_failure (
    image_id varchar primary key,
    reason varchar not null
);
comment on table caption_failure is 'Images of which the captioner would say nothing.';
comment on column caption_failure.image_id is 'The image.';
comment on column caption_failure.reason is 'What the captioner said instead.';

create table model_check (
    content_key varchar not null,
    place integer not null,
    graph varchar not null,
    output varchar not null,
    batch integer not null,
    difference double not null,
    tolerance double not null,
    unit varchar not null check (unit in ('absolute', 'relative', 'grey levels', 'PSNR dB')),
    primary key (content_key, place)
);
comment on table model_check is 'Each comparison of a bundle with its library, made when it was exported.';
comment on column model_check.content_key is 'The bundle.';
comment on column model_check.place is 'Its place in the manifest, from 0.';
comment on column model_check.graph is 'The graph; `preprocess` and `caption` are parts of one, a sampler''s name is the whole generator.';
comment on column model_check.output is 'Its output.';
comment on column model_check.batch is 'Images that were compared at once.';
comment on column model_check.difference is 'How far the worst value was off, or the lowest PSNR.';
comment on column model_check.tolerance is 'The bound: difference at most, PSNR at least.';
comment on column model_check.unit is 'absolute, relative to the largest value, grey levels, or PSNR in dB.';
