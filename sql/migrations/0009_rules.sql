alter table audit add column rules integer default 1;
comment on column audit.rules is 'Which rules decide what is asked and what is confirmed; only the same ones go on with it.';
