alter table hypothesis rename to hypothesis_before;
create table hypothesis (
    hypothesis_id varchar primary key,
    label varchar not null,
    prompt_id varchar not null,
    event varchar not null,
    description varchar not null,
    place integer not null,
    score double not null,
    origin varchar not null check (origin in ('failures', 'longer', 'shorter', 'joined', 'own', 'pooled', 'control')),
    round integer not null,
    weight double not null,
    born_wave integer not null,
    cluster_id varchar,
    parent_id varchar
);
comment on table hypothesis is 'Descriptions under test: does this prompt raise the rate of this event?';
comment on column hypothesis.hypothesis_id is 'Hash of prompt and event.';
comment on column hypothesis.label is 'The label; of a description that several labels share, all of them, as `a, b, c`.';
comment on column hypothesis.prompt_id is 'The plain prompt with the description added; of several labels, that of the first (the view `hypothesis_prompt` has all).';
comment on column hypothesis.event is 'The prediction that counts, fixed at birth; empty: any error.';
comment on column hypothesis.description is 'The sentences added.';
comment on column hypothesis.place is 'Its rank among the label''s of its round, from 0.';
comment on column hypothesis.score is 'How much more often its sentence is said of failures than of passes, as a z (Mantel and Haenszel): a rank, no proof.';
comment on column hypothesis.origin is 'failures (what captions say of them), longer or shorter (its parent with a sentence more or less), joined (two confirmed ones), own (a person''s), pooled (what captions say of failures of several labels, tested on them together), control (for comparison).';
comment on column hypothesis.round is 'The round that put it to the test.';
comment on column hypothesis.weight is 'The share of the level that each of its tests has.';
comment on column hypothesis.born_wave is 'The last wave that was looked at for it; its proof starts after.';
comment on column hypothesis.cluster_id is 'The group of failures that it came from, if any.';
comment on column hypothesis.parent_id is 'The description that it was made of, if any.';
insert into hypothesis select * from hypothesis_before;
drop table hypothesis_before;

create table further_prompt (
    hypothesis_id varchar not null,
    place integer not null,
    prompt_id varchar not null,
    primary key (hypothesis_id, place)
);
comment on table further_prompt is 'The other labels'' prompts of a description that is tested on several labels together.';
comment on column further_prompt.hypothesis_id is 'The description.';
comment on column further_prompt.place is 'Counts from 1; 0 is the prompt that stands in `hypothesis`.';
comment on column further_prompt.prompt_id is 'A label''s plain prompt with the description added.';
