create table photograph (
    name varchar not null,
    label varchar not null,
    half varchar check (half in ('discovery', 'proof')),
    index bigint,
    digest varchar,
    width integer,
    height integer,
    reason varchar
);
comment on table photograph is 'Pictures that people took, one row each: those under audit, and those that can''t be used and why.';
comment on column photograph.name is 'Where it lies in its source.';
comment on column photograph.label is 'What its source says that it shows; empty if it says nothing.';
comment on column photograph.half is 'discovery (looked at for descriptions, never proof) or proof (tests them); by the hash of its file. Null if it is not used.';
comment on column photograph.index is 'Its place among its label''s, in the order of their hashes, those for discovery first: the `index` of its image.';
comment on column photograph.digest is 'SHA-256 of its file.';
comment on column photograph.width is 'Pixels, turned as its EXIF says.';
comment on column photograph.height is 'Pixels.';
comment on column photograph.reason is 'Why it is not used; null if it is.';

create table photograph_pair (
    hypothesis_id varchar not null,
    place integer not null,
    image_id varchar not null,
    plain_image_id varchar not null,
    primary key (hypothesis_id, place)
);
comment on table photograph_pair is 'Photographs of the proof that a description was tested on: one that shows it and one of the same label that does not, as chance put them together.';
comment on column photograph_pair.hypothesis_id is 'The description.';
comment on column photograph_pair.place is 'Counts from 0.';
comment on column photograph_pair.image_id is 'The image that shows it.';
comment on column photograph_pair.plain_image_id is 'The image that does not.';

alter table wave rename to wave_before;
create table wave (
    wave integer not null,
    phase varchar not null check (phase in ('discovery', 'test', 'reserve', 'photographs', 'proof')),
    place integer not null,
    prompt_id varchar not null,
    first_index bigint not null,
    images integer not null,
    max_images integer not null,
    primary key (wave, place)
);
comment on table wave is 'The plan: which fresh indices each prompt takes in each wave; the first is the discovery.';
comment on column wave.wave is 'Counts from 0; decisions are taken between waves only.';
comment on column wave.phase is 'discovery (never proof), test (feeds the e-values) or reserve (gives the rates that are reported); of photographs, photographs (their discovery) or proof.';
comment on column wave.place is 'Place in the wave''s order.';
comment on column wave.prompt_id is 'The prompt.';
comment on column wave.first_index is 'First index of its range; a wave''s prompts of one label share the range: pairs.';
comment on column wave.images is 'Length of the range.';
comment on column wave.max_images is 'The budget when the wave was begun.';
insert into wave select * from wave_before;
drop table wave_before;

alter table round rename to round_before;
create table round (
    round integer primary key,
    kind varchar not null check (kind in ('mined', 'own', 'photographs')),
    wave integer not null,
    tests integer not null,
    weight double,
    max_images integer not null
);
comment on table round is 'Batches of tests that began together, after another look at all that was judged.';
comment on column round.round is 'Counts from 1.';
comment on column round.kind is 'mined (what captions of failures say) or own (a person''s ideas, and what photographs say), tested on generated pairs; photographs (tested on the proof half of the photographs).';
comment on column round.wave is 'The last wave that it looked at; its tests begin after that.';
comment on column round.tests is 'Descriptions that it put to the test, times classifiers.';
comment on column round.weight is 'The share of the level that each of its tests has: 6/(π² round²) / tests. Null where it found nothing to test.';
comment on column round.max_images is 'The budget when it was begun.';
insert into round select * from round_before;
drop table round_before;

alter table hypothesis rename to hypothesis_before;
create table hypothesis (
    hypothesis_id varchar primary key,
    label varchar not null,
    prompt_id varchar not null,
    event varchar not null,
    description varchar not null,
    place integer not null,
    score double not null,
    origin varchar not null check (origin in (
        'failures', 'longer', 'shorter', 'joined', 'own', 'pooled', 'control', 'photographs', 'generated'
    )),
    round integer not null,
    weight double not null,
    born_wave integer not null,
    cluster_id varchar,
    parent_id varchar
);
comment on table hypothesis is 'Descriptions under test: does this prompt raise the rate of this event?';
comment on column hypothesis.hypothesis_id is 'Hash of prompt and event, and of what it is tested on.';
comment on column hypothesis.label is 'The label; of a description that several labels share, all of them, as `a, b, c`.';
comment on column hypothesis.prompt_id is 'The plain prompt with the description added; of several labels, that of the first (the view `hypothesis_prompt` has all).';
comment on column hypothesis.event is 'The prediction that counts, fixed at birth; empty: any error.';
comment on column hypothesis.description is 'The sentences added.';
comment on column hypothesis.place is 'Its rank among the label''s of its round, from 0.';
comment on column hypothesis.score is 'How much more often its sentence is said of failures than of passes, as a z (Mantel and Haenszel): a rank, no proof.';
comment on column hypothesis.origin is 'failures (what captions say of them), longer or shorter (its parent with a sentence more or less), joined (two confirmed ones), own (a person''s), pooled (what captions say of failures of several labels, tested on them together), control (for comparison), photographs (found in photographs, tested on generated images), generated (the other way round).';
comment on column hypothesis.round is 'The round that put it to the test.';
comment on column hypothesis.weight is 'The share of the level that each of its tests has.';
comment on column hypothesis.born_wave is 'The last wave that was looked at for it; its proof starts after.';
comment on column hypothesis.cluster_id is 'The group of failures that it came from, if any.';
comment on column hypothesis.parent_id is 'The description that it was made of, if any.';
insert into hypothesis select * from hypothesis_before;
drop table hypothesis_before;
