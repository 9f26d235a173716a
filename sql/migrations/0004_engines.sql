alter table run add column engines varchar;
comment on column run.engines is 'What ran which model, in which precision, at which batch; null before it was noted.';
