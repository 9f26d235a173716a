-- Images and predictions know their wave and the gate's score, so that no question joins millions of rows; they have no
-- primary key, whose index would be held in memory: ids are hashes, and a chunk, which has one, is written once.
create table image_new (
    image_id varchar not null,
    chunk_id varchar not null,
    prompt_id varchar not null,
    wave integer not null,
    index bigint not null,
    gate_score float not null,
    answers integer not null,
    errors integer not null,
    jpeg blob
);
insert into image_new
    select
        image.image_id, image.chunk_id, image.prompt_id, chunk.wave, image.index, gate_score.score,
        coalesce(said.answers, 0), coalesce(said.errors, 0), image.jpeg
    from image
    left join chunk using (chunk_id)
    left join gate_score using (image_id)
    left join (
        select
            prediction.image_id,
            count(distinct predicted) as answers,
            count(*) filter (accepted_label.accepted is null) as errors
        from prediction
        join image using (image_id)
        join prompt on prompt.prompt_id = image.prompt_id
        left join accepted_label on accepted_label.label = prompt.label and accepted_label.accepted = predicted
        group by prediction.image_id
    ) as said using (image_id);
drop table image;
alter table image_new rename to image;
drop table gate_score;
comment on table image is 'The images, by wave; one that failed stands in item_failure instead.';
comment on column image.image_id is 'Hash of prompt and index.';
comment on column image.chunk_id is 'The chunk that it came in.';
comment on column image.prompt_id is 'The prompt.';
comment on column image.wave is 'The wave that asked for it.';
comment on column image.index is 'Keys its noise, together with seed and label: the same index is the same noise under every prompt.';
comment on column image.gate_score is 'How surely it shows its label, 0 to 1, by a model apart from the classifiers and the embedder.';
comment on column image.answers is 'How many different first choices its classifiers have.';
comment on column image.errors is 'How many of them are wrong.';
comment on column image.jpeg is 'The picture. What the models saw are the pixels before the compression.';

create table prediction_new (
    image_id varchar not null,
    classifier varchar not null,
    prompt_id varchar not null,
    wave integer not null,
    index bigint not null,
    gate_score float not null,
    predicted varchar not null,
    wrong boolean not null,
    score float not null,
    label_score float not null,
    margin float,
    top_labels varchar[] not null,
    top_scores float[] not null
);
insert into prediction_new
    select
        prediction.image_id, classifier, image.prompt_id, image.wave, image.index, image.gate_score, predicted,
        accepted_label.accepted is null, score, label_score, top_scores[1] - top_scores[2], top_labels, top_scores
    from prediction
    left join image using (image_id)
    left join prompt on prompt.prompt_id = image.prompt_id
    left join accepted_label on accepted_label.label = prompt.label and accepted_label.accepted = predicted;
drop table prediction;
alter table prediction_new rename to prediction;
comment on table prediction is 'What a classifier sees in an image, by wave.';
comment on column prediction.image_id is 'The image.';
comment on column prediction.classifier is 'The classifier''s name.';
comment on column prediction.prompt_id is 'The image''s prompt.';
comment on column prediction.wave is 'The wave that asked for the image.';
comment on column prediction.index is 'The image''s index.';
comment on column prediction.gate_score is 'The gate''s score of the image.';
comment on column prediction.predicted is 'Its first choice.';
comment on column prediction.wrong is 'Whether that lies outside of the label''s accepted set.';
comment on column prediction.score is 'Softmax score of the first choice.';
comment on column prediction.label_score is 'Softmax score of the label that was asked for.';
comment on column prediction.margin is 'Lead of the first choice''s score over that of the second; null where it knows one label.';
comment on column prediction.top_labels is 'Its first choices in order.';
comment on column prediction.top_scores is 'Their scores.';

create table embedding_new (image_id varchar not null, wave integer not null, vector float[] not null);
insert into embedding_new
    select embedding.image_id, image.wave, embedding.vector from embedding left join image using (image_id);
drop table embedding;
alter table embedding_new rename to embedding;
comment on table embedding is 'Where an image lies.';
comment on column embedding.image_id is 'The image.';
comment on column embedding.wave is 'The wave that asked for it.';
comment on column embedding.vector is 'Of norm 1.';

create table outcome_count (
    prompt_id varchar not null,
    wave integer not null,
    classifier varchar not null,
    predicted varchar not null,
    wrong boolean not null,
    gate_from double not null,
    images integer not null
);
insert into outcome_count
    select prompt_id, wave, classifier, predicted, wrong, gate_from, count(*)
    from (
        select
            prediction.*,
            list_max(list_filter(
                list_append(list_append([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99], gate_lower), gate_upper),
                lambda bound: bound <= gate_score::double or bound = 0
            )) as gate_from
        from prediction
        cross join audit
    )
    group by all
    order by wave, prompt_id, classifier, predicted, gate_from;
comment on table outcome_count is 'How often each classifier said what; written with the images, so that rates need no row of theirs.';
comment on column outcome_count.prompt_id is 'The prompt.';
comment on column outcome_count.wave is 'The wave.';
comment on column outcome_count.classifier is 'The classifier''s name.';
comment on column outcome_count.predicted is 'Its first choice.';
comment on column outcome_count.wrong is 'Whether that lies outside of the label''s accepted set.';
comment on column outcome_count.gate_from is 'The largest bound of the view gate_bound that the gate''s score reaches.';
comment on column outcome_count.images is 'How many images; a prompt and wave may have several rows that are alike but for this.';

create table pair_count (
    hypothesis_id varchar not null,
    classifier varchar not null,
    wave integer not null,
    images integer not null,
    n integer not null,
    failures integer not null,
    baseline_n integer not null,
    baseline_failures integer not null,
    pairs integer not null,
    more integer not null,
    less integer not null,
    failures_without_gate integer not null,
    baseline_failures_without_gate integer not null
);
insert into pair_count
    select
        hypothesis.hypothesis_id,
        described.classifier,
        described.wave,
        count(*),
        count(*) filter (described.gate_score >= audit.gate_upper),
        count(*) filter (described.gate_score >= audit.gate_upper and described.wrong and hypothesis.event in ('', described.predicted)),
        count(*) filter (plain.gate_score >= audit.gate_upper),
        count(*) filter (plain.gate_score >= audit.gate_upper and plain.wrong and hypothesis.event in ('', plain.predicted)),
        count(*) filter (least(described.gate_score, plain.gate_score) >= audit.gate_upper),
        count(*) filter (
            least(described.gate_score, plain.gate_score) >= audit.gate_upper
            and (described.wrong and hypothesis.event in ('', described.predicted))
            and not (plain.wrong and hypothesis.event in ('', plain.predicted))
        ),
        count(*) filter (
            least(described.gate_score, plain.gate_score) >= audit.gate_upper
            and (plain.wrong and hypothesis.event in ('', plain.predicted))
            and not (described.wrong and hypothesis.event in ('', described.predicted))
        ),
        count(*) filter (described.wrong and hypothesis.event in ('', described.predicted)),
        count(*) filter (plain.wrong and hypothesis.event in ('', plain.predicted))
    from hypothesis
    join (
        select hypothesis_id, prompt_id from hypothesis
        union all select hypothesis_id, prompt_id from further_prompt
    ) as own using (hypothesis_id)
    join prompt on prompt.prompt_id = own.prompt_id
    join label on label.label = prompt.label
    join prediction as described on described.prompt_id = own.prompt_id
    join prediction as plain
        on plain.prompt_id = label.plain_prompt_id
        and plain.index = described.index
        and plain.classifier = described.classifier
    join (select distinct wave, phase from wave) as phases on phases.wave = described.wave
    left join evidence
        on evidence.hypothesis_id = hypothesis.hypothesis_id
        and evidence.classifier = described.classifier
        and evidence.wave = described.wave
    cross join audit
    where described.wave > hypothesis.born_wave and (phases.phase = 'reserve' or evidence.wave is not null)
    group by all
    order by described.wave, hypothesis.hypothesis_id, described.classifier;
comment on table pair_count is 'What the pairs of a whole wave of tests, or of the reserve, come to, per hypothesis and classifier.';
comment on column pair_count.hypothesis_id is 'The hypothesis.';
comment on column pair_count.classifier is 'The classifier.';
comment on column pair_count.wave is 'The wave.';
comment on column pair_count.images is 'Indices with an image under the description and a plain one.';
comment on column pair_count.n is 'Of these, images under the description that pass the gate.';
comment on column pair_count.failures is 'Of n, those with the event.';
comment on column pair_count.baseline_n is 'Plain images that pass the gate.';
comment on column pair_count.baseline_failures is 'Of baseline_n, those with the event.';
comment on column pair_count.pairs is 'Indices at which both pass the gate.';
comment on column pair_count.more is 'Pairs with the event under the description only.';
comment on column pair_count.less is 'Pairs with the event under the plain prompt only.';
comment on column pair_count.failures_without_gate is 'Images under the description with the event, the gate not asked.';
comment on column pair_count.baseline_failures_without_gate is 'Plain images with the event, the gate not asked.';

create table drawn_count (
    prompt_id varchar not null,
    wave integer not null,
    n integer not null,
    total double not null,
    squares double not null
);
insert into drawn_count
    select prompt_id, wave, count(*), sum(closer), sum(closer * closer)
    from (
        select
            described.prompt_id,
            described.wave,
            list_inner_product(own.vector, text_embedding.vector) - list_inner_product(other.vector, text_embedding.vector) as closer
        from text_embedding
        join prompt using (prompt_id)
        join label on label.label = prompt.label
        join image as described on described.prompt_id = text_embedding.prompt_id
        join image as plain on plain.prompt_id = label.plain_prompt_id and plain.index = described.index
        join embedding as own on own.image_id = described.image_id
        join embedding as other on other.image_id = plain.image_id
    )
    group by all
    order by wave, prompt_id;
comment on table drawn_count is 'How much closer to a description its images of a wave are than their plain twins.';
comment on column drawn_count.prompt_id is 'The prompt that holds the description.';
comment on column drawn_count.wave is 'The wave.';
comment on column drawn_count.n is 'Images with a twin.';
comment on column drawn_count.total is 'Sum of the differences of cosines.';
comment on column drawn_count.squares is 'Sum of their squares.';
