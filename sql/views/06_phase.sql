create or replace view phase as
select wave, any_value(phase) as phase
from wave
group by wave;

comment on view phase is 'What each wave is for.';
