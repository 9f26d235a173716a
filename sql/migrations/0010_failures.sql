alter table item_failure add column asked_again boolean default false;
update item_failure set asked_again = true;
comment on column item_failure.asked_again is 'Whether it was tried a second time, at the end of its wave.';

create table model_failure (
    image_id varchar not null,
    role varchar not null,
    model varchar not null,
    reason varchar not null,
    primary key (image_id, role, model)
);
comment on table model_failure is 'Images of which one model could say nothing; for the others they count.';
comment on column model_failure.image_id is 'The image.';
comment on column model_failure.role is 'classifier or embedder.';
comment on column model_failure.model is 'The model''s name.';
comment on column model_failure.reason is 'Why.';
