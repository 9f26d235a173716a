create table audit (
    audit_id varchar primary key,
    name varchar not null,
    seed bigint not null,
    generator varchar not null,
    settings varchar not null,
    folder varchar not null,
    tests integer not null,
    gate_lower double not null,
    gate_upper double not null,
    finished_budget integer
);
comment on table audit is 'What this file is about: one row.';
comment on column audit.audit_id is 'Hash of the settings, the budget aside, and of the models'' content keys.';
comment on column audit.name is 'From the settings.';
comment on column audit.seed is 'Keys the noise of every image.';
comment on column audit.generator is 'Name of the generator.';
comment on column audit.settings is 'The settings as JSON, the budget aside.';
comment on column audit.folder is 'Where relative paths of bundles start.';
comment on column audit.tests is 'K: labels × hypotheses per label × classifiers, fixed before the first image.';
comment on column audit.gate_lower is 'Gate score below which the generator missed.';
comment on column audit.gate_upper is 'Gate score from which on an image passes.';
comment on column audit.finished_budget is 'The budget of images under which the audit came to its end; null before.';

create table run (
    run_id integer primary key,
    mothlight_version varchar not null,
    started_at timestamp not null,
    ended_at timestamp,
    max_images integer not null,
    batch integer not null,
    threads integer not null,
    machine varchar not null,
    check (ended_at >= started_at)
);
comment on table run is 'One start of the audit.';
comment on column run.run_id is 'Counts from 1.';
comment on column run.mothlight_version is 'The version that ran.';
comment on column run.started_at is 'UTC.';
comment on column run.ended_at is 'UTC; null while it runs, and after it was killed.';
comment on column run.max_images is 'The budget of images that it was given.';
comment on column run.batch is 'Images per batch; results may differ in the last bit between batch sizes.';
comment on column run.threads is 'Threads that make images side by side, one per graph.';
comment on column run.machine is 'Processor, execution provider and versions.';

create table model (
    content_key varchar primary key,
    role varchar not null,
    name varchar not null,
    source varchar not null,
    worst_difference double,
    tolerance double
);
comment on table model is 'The bundles that take part.';
comment on column model.content_key is 'SHA-256 over weights, graphs and manifest; for the renderer its name.';
comment on column model.role is 'generator, classifier, embedder, captioner or gate.';
comment on column model.name is 'What the results call it.';
comment on column model.source is 'Library, version and the model''s name there.';
comment on column model.worst_difference is 'Largest relative difference between an output of the library and of the graph, when it was exported.';
comment on column model.tolerance is 'The bound that it had to meet.';

create table label (
    label varchar primary key,
    place integer not null,
    plain_prompt_id varchar not null
);
comment on table label is 'The labels under audit.';
comment on column label.label is 'Its name, as the classifiers and the gate know it.';
comment on column label.place is 'Its place in the settings, from 0.';
comment on column label.plain_prompt_id is 'The prompt that names the label and nothing else.';

create table accepted_label (
    label varchar not null,
    accepted varchar not null,
    primary key (label, accepted)
);
comment on table accepted_label is 'Which predictions count as right for a label.';
comment on column accepted_label.label is 'What was asked for.';
comment on column accepted_label.accepted is 'A prediction that is not wrong; the label itself is always one.';

create table prompt (
    prompt_id varchar primary key,
    label varchar not null,
    text varchar not null,
    description varchar not null
);
comment on table prompt is 'The texts that images were made of.';
comment on column prompt.prompt_id is 'Hash of label and text.';
comment on column prompt.label is 'What its images must show.';
comment on column prompt.text is 'What the generator reads.';
comment on column prompt.description is 'The sentences added to the plain prompt; empty for that one.';

create table wave (
    wave integer not null,
    phase varchar not null check (phase in ('discovery', 'test', 'reserve')),
    place integer not null,
    prompt_id varchar not null,
    first_index bigint not null,
    images integer not null,
    max_images integer not null,
    primary key (wave, place)
);
comment on table wave is 'The plan: which fresh indices each prompt takes in each wave; wave 0 is the discovery.';
comment on column wave.wave is 'Counts from 0; decisions are taken between waves only.';
comment on column wave.phase is 'discovery (never proof), test (feeds the e-values) or reserve (gives the rates that are reported).';
comment on column wave.place is 'Place in the wave''s order.';
comment on column wave.prompt_id is 'The prompt.';
comment on column wave.first_index is 'First index of its range; a wave''s prompts of one label share the range: pairs.';
comment on column wave.images is 'Length of the range.';
comment on column wave.max_images is 'The budget when the wave was begun.';

create table chunk (
    chunk_id varchar primary key,
    prompt_id varchar not null,
    wave integer not null,
    first_index bigint not null,
    images integer not null,
    run_id integer not null
);
comment on table chunk is 'Units of work that are whole in this file: their rows were committed together.';
comment on column chunk.chunk_id is 'Hash of prompt and range.';
comment on column chunk.prompt_id is 'The prompt.';
comment on column chunk.wave is 'The wave that asked for it.';
comment on column chunk.first_index is 'First index.';
comment on column chunk.images is 'How many indices.';
comment on column chunk.run_id is 'The run that made it.';

create table image (
    image_id varchar primary key,
    chunk_id varchar not null,
    prompt_id varchar not null,
    index bigint not null,
    jpeg blob
);
comment on table image is 'The images; one that failed stands in item_failure instead.';
comment on column image.image_id is 'Hash of prompt and index.';
comment on column image.chunk_id is 'The chunk that it came in.';
comment on column image.prompt_id is 'The prompt.';
comment on column image.index is 'Keys its noise, together with seed and label: the same index is the same noise under every prompt.';
comment on column image.jpeg is 'The picture. What the models saw are the pixels before the compression.';

create table prediction (
    image_id varchar not null,
    classifier varchar not null,
    predicted varchar not null,
    score float not null,
    label_score float not null,
    top_labels varchar[] not null,
    top_scores float[] not null,
    primary key (image_id, classifier)
);
comment on table prediction is 'What a classifier sees in an image.';
comment on column prediction.image_id is 'The image.';
comment on column prediction.classifier is 'The classifier''s name.';
comment on column prediction.predicted is 'Its first choice.';
comment on column prediction.score is 'Softmax score of the first choice.';
comment on column prediction.label_score is 'Softmax score of the label that was asked for.';
comment on column prediction.top_labels is 'Its first choices in order.';
comment on column prediction.top_scores is 'Their scores.';

create table embedding (
    image_id varchar primary key,
    vector float[] not null
);
comment on table embedding is 'Where an image lies.';
comment on column embedding.image_id is 'The image.';
comment on column embedding.vector is 'Of norm 1.';

create table gate_score (
    image_id varchar primary key,
    score float not null
);
comment on table gate_score is 'How surely an image shows its label, by a model apart from the classifiers and the embedder.';
comment on column gate_score.image_id is 'The image.';
comment on column gate_score.score is 'Score of the label that was asked for, 0 to 1.';

create table cluster (
    cluster_id varchar primary key,
    classifier varchar not null,
    label varchar not null,
    predicted varchar not null,
    place integer not null
);
comment on table cluster is 'Groups of failures from the discovery.';
comment on column cluster.cluster_id is 'Hash of the three below.';
comment on column cluster.classifier is 'Who failed.';
comment on column cluster.label is 'What the images show.';
comment on column cluster.predicted is 'What the classifier said.';
comment on column cluster.place is '0: all of these failures; from 1 on: the parts into which their embeddings fall.';

create table cluster_member (
    cluster_id varchar not null,
    image_id varchar not null,
    primary key (cluster_id, image_id)
);
comment on table cluster_member is 'The failures in a cluster.';
comment on column cluster_member.cluster_id is 'The cluster.';
comment on column cluster_member.image_id is 'The image.';

create table caption (
    image_id varchar primary key,
    text varchar not null
);
comment on table caption is 'What the captioner says of an image of the discovery.';
comment on column caption.image_id is 'The image.';
comment on column caption.text is 'Its words.';

create table hypothesis (
    hypothesis_id varchar primary key,
    label varchar not null,
    prompt_id varchar not null,
    event varchar not null,
    description varchar not null,
    place integer not null,
    score double not null,
    cluster_id varchar not null,
    parent_id varchar,
    born_wave integer not null
);
comment on table hypothesis is 'Descriptions under test: does this prompt raise the rate of this event?';
comment on column hypothesis.hypothesis_id is 'Hash of prompt and event.';
comment on column hypothesis.label is 'The label.';
comment on column hypothesis.prompt_id is 'The plain prompt with the description added.';
comment on column hypothesis.event is 'The prediction that counts, fixed at birth; empty: any error.';
comment on column hypothesis.description is 'The sentences added.';
comment on column hypothesis.place is 'Its rank among the label''s at birth, from 0.';
comment on column hypothesis.score is 'z-scored log odds of its sentence among the cluster''s captions against the passes'': a rank, no proof.';
comment on column hypothesis.cluster_id is 'The cluster that it came from.';
comment on column hypothesis.parent_id is 'The description that it makes shorter, if any.';
comment on column hypothesis.born_wave is 'Its proof starts in the wave after.';

create table evidence (
    hypothesis_id varchar not null,
    classifier varchar not null,
    wave integer not null,
    pairs integer not null,
    more integer not null,
    less integer not null,
    e_value double not null,
    primary key (hypothesis_id, classifier, wave)
);
comment on table evidence is 'Counts of pairs, per hypothesis, classifier and test wave.';
comment on column evidence.hypothesis_id is 'The hypothesis.';
comment on column evidence.classifier is 'The classifier.';
comment on column evidence.wave is 'The wave.';
comment on column evidence.pairs is 'Indices at which the image under the description and the plain one both pass the gate.';
comment on column evidence.more is 'Pairs with the event under the description only.';
comment on column evidence.less is 'Pairs with the event under the plain prompt only.';
comment on column evidence.e_value is 'The e-value after this wave, over all its waves so far.';

create table decision (
    hypothesis_id varchar not null,
    classifier varchar not null,
    wave integer not null,
    status varchar not null check (status in ('testing', 'confirmed', 'not confirmed')),
    live boolean not null,
    e_value double not null,
    q_value double not null,
    reason varchar not null,
    primary key (hypothesis_id, classifier, wave)
);
comment on table decision is 'What was decided after each test wave; those of the last wave count.';
comment on column decision.hypothesis_id is 'The hypothesis.';
comment on column decision.classifier is 'The classifier.';
comment on column decision.wave is 'The wave after which.';
comment on column decision.status is 'testing (goes on), confirmed (q at most the false discovery rate), not confirmed (stopped early or out of budget).';
comment on column decision.live is 'Whether the hypothesis takes part in the next wave.';
comment on column decision.e_value is 'Its evidence so far.';
comment on column decision.q_value is 'Smallest false discovery rate at which e-BH confirms it.';
comment on column decision.reason is 'Why it stopped, or empty.';

create table item_failure (
    chunk_id varchar not null,
    prompt_id varchar not null,
    index bigint not null,
    reason varchar not null,
    primary key (prompt_id, index)
);
comment on table item_failure is 'Images that could not be made or judged; they are in no rate.';
comment on column item_failure.chunk_id is 'The chunk.';
comment on column item_failure.prompt_id is 'The prompt.';
comment on column item_failure.index is 'The index.';
comment on column item_failure.reason is 'Why.';

create table stage_stat (
    run_id integer not null,
    wave integer not null,
    stage varchar not null,
    batches integer not null,
    images integer not null,
    busy_seconds double not null,
    wall_seconds double not null
);
comment on table stage_stat is 'Where a run''s time went.';
comment on column stage_stat.run_id is 'The run.';
comment on column stage_stat.wave is 'The wave.';
comment on column stage_stat.stage is 'The stage, or captions.';
comment on column stage_stat.batches is 'Batches done.';
comment on column stage_stat.images is 'Images done.';
comment on column stage_stat.busy_seconds is 'Time in which its workers worked, summed over them.';
comment on column stage_stat.wall_seconds is 'Time that the wave took.';
