create table text_embedding (
    prompt_id varchar primary key,
    vector float[] not null
);
comment on table text_embedding is 'Where descriptions lie among the images, by an embedder that reads text; else empty.';
comment on column text_embedding.prompt_id is 'The prompt that holds the description.';
comment on column text_embedding.vector is 'Of the description alone, of norm 1.';
