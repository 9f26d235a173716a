alter table audit add column ended varchar;
comment on column audit.ended is 'Why it came to its end; null before.';
comment on column audit.tests is 'Of audits before there were rounds: how many tests there could be; else null.';
alter table audit alter column tests drop not null;

create table round (
    round integer primary key,
    kind varchar not null check (kind in ('mined', 'own')),
    wave integer not null,
    tests integer not null,
    weight double,
    max_images integer not null
);
comment on table round is 'Batches of tests that began together, after another look at all that was judged.';
comment on column round.round is 'Counts from 1.';
comment on column round.kind is 'mined (what captions of failures say) or own (a person''s ideas).';
comment on column round.wave is 'The last wave that it looked at; its tests begin after that.';
comment on column round.tests is 'Descriptions that it put to the test, times classifiers.';
comment on column round.weight is 'The share of the level that each of its tests has: 6/(π² round²) / tests. Null where it found nothing to test.';
comment on column round.max_images is 'The budget when it was begun.';

alter table hypothesis rename to hypothesis_before;
create table hypothesis (
    hypothesis_id varchar primary key,
    label varchar not null,
    prompt_id varchar not null,
    event varchar not null,
    description varchar not null,
    place integer not null,
    score double not null,
    origin varchar not null check (origin in ('failures', 'longer', 'shorter', 'joined', 'own', 'control')),
    round integer not null,
    weight double not null,
    born_wave integer not null,
    cluster_id varchar,
    parent_id varchar
);
comment on table hypothesis is 'Descriptions under test: does this prompt raise the rate of this event?';
comment on column hypothesis.hypothesis_id is 'Hash of prompt and event.';
comment on column hypothesis.label is 'The label.';
comment on column hypothesis.prompt_id is 'The plain prompt with the description added.';
comment on column hypothesis.event is 'The prediction that counts, fixed at birth; empty: any error.';
comment on column hypothesis.description is 'The sentences added.';
comment on column hypothesis.place is 'Its rank among the label''s of its round, from 0.';
comment on column hypothesis.score is 'How much more often its sentence is said of failures than of passes, as a z (Mantel and Haenszel): a rank, no proof.';
comment on column hypothesis.origin is 'failures (what captions say of them), longer or shorter (its parent with a sentence more or less), joined (two confirmed ones), own (a person''s), control (for comparison).';
comment on column hypothesis.round is 'The round that put it to the test.';
comment on column hypothesis.weight is 'The share of the level that each of its tests has.';
comment on column hypothesis.born_wave is 'The last wave that was looked at for it; its proof starts after.';
comment on column hypothesis.cluster_id is 'The group of failures that it came from, if any.';
comment on column hypothesis.parent_id is 'The description that it was made of, if any.';
insert into round
    select 1, 'mined', 0, audit.tests, 1 / audit.tests, coalesce((select max(max_images) from wave), 0)
    from audit where exists (from hypothesis_before);
insert into hypothesis
    select
        hypothesis_id, label, prompt_id, event, description, place, score,
        'failures', 1, 1 / (select tests from audit), born_wave, cluster_id, parent_id
    from hypothesis_before;
drop table hypothesis_before;

alter table cluster rename to cluster_before;
create table cluster (
    cluster_id varchar primary key,
    round integer not null,
    classifier varchar not null,
    label varchar not null,
    predicted varchar not null,
    place integer not null
);
comment on table cluster is 'Groups of failures on plain prompts.';
comment on column cluster.cluster_id is 'Hash of the four below.';
comment on column cluster.round is 'The round that grouped them.';
comment on column cluster.classifier is 'Who failed.';
comment on column cluster.label is 'What the images show.';
comment on column cluster.predicted is 'What the classifier said; empty: all of the label''s failures.';
comment on column cluster.place is '0: all of these failures; from 1 on: the parts into which their embeddings fall.';
insert into cluster select cluster_id, 1, classifier, label, predicted, place from cluster_before;
drop table cluster_before;

alter table evidence add column low double;
alter table evidence add column high double;
comment on column evidence.low is 'Lower bound of the effect after this wave; the interval holds after all waves at once (95 %).';
comment on column evidence.high is 'Its upper bound.';

alter table decision rename to decision_before;
create table decision (
    hypothesis_id varchar not null,
    classifier varchar not null,
    status varchar not null check (status in ('testing', 'confirmed', 'not confirmed')),
    e_value double not null,
    q_value double not null
);
comment on table decision is 'What stands decided of each test; replaced after each test wave.';
comment on column decision.hypothesis_id is 'The hypothesis.';
comment on column decision.classifier is 'The classifier.';
comment on column decision.status is 'testing (open), confirmed (q at most the false discovery rate), not confirmed (its effect is too small to count, or the audit ended before an answer).';
comment on column decision.e_value is 'Its evidence so far.';
comment on column decision.q_value is 'Smallest false discovery rate at which it is confirmed.';
create table standing (
    hypothesis_id varchar not null,
    bug varchar not null,
    live boolean not null,
    reason varchar not null
);
comment on table standing is 'How each description stands; replaced after each test wave.';
comment on column standing.hypothesis_id is 'The hypothesis.';
comment on column standing.bug is 'Hypotheses with the same value here are wordings of one bug.';
comment on column standing.live is 'Whether something is left to ask about it.';
comment on column standing.reason is 'Why nothing is, or why the audit ended before; else empty.';
insert into decision
    select hypothesis_id, classifier, status, e_value, q_value from decision_before
    qualify row_number() over (partition by hypothesis_id, classifier order by wave desc) = 1;
insert into standing
    select hypothesis_id, hypothesis_id, bool_or(live), any_value(reason) from (
        from decision_before
        qualify row_number() over (partition by hypothesis_id, classifier order by wave desc) = 1
    )
    group by hypothesis_id;
drop table decision_before;
