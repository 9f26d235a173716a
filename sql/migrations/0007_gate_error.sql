create table gate_error (
    kind varchar primary key check (kind in ('plain', 'described')),
    source varchar not null,
    n integer not null,
    wrong integer not null,
    rate double not null,
    low double not null check (low between 0 and rate),
    high double not null check (high between rate and 1)
);
comment on table gate_error is 'Of the images that pass the gate, how many do not show their label after all: measured by `mothlight gate calibrate`, empty without it. The upper end is carried into every interval.';
comment on column gate_error.kind is 'plain (prompts that name the label only) or described.';
comment on column gate_error.source is 'Where the truth came from: a person''s answers, or pictures whose label is known.';
comment on column gate_error.n is 'Images of known truth that pass the gate; where pictures of other labels were asked, all of those.';
comment on column gate_error.wrong is 'How many of them do not show the label.';
comment on column gate_error.rate is 'The share of images that pass and do not show their label.';
comment on column gate_error.low is 'Lower end of its 95 % interval (Clopper and Pearson).';
comment on column gate_error.high is 'Upper end.';
