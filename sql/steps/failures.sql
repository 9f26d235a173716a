-- Failures on plain prompts, of some phases, and where they lie, to be grouped.
select classifier, label, predicted, image_id, vector
from outcome
join embedding using (image_id)
where description = '' and verdict = 'failure' and phase in (select unnest($phases::varchar[]))
order by classifier, label, predicted, index;
