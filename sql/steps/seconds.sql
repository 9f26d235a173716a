-- How long all runs of an audit that came to their end took.
select coalesce(sum(date_diff('millisecond', started_at, ended_at)), 0) / 1000
from run;
