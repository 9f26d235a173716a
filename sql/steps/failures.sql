-- Failures on plain prompts and where they lie, to be grouped.
select classifier, label, predicted, image_id, vector
from outcome
join embedding using (image_id)
where description = '' and verdict = 'failure'
order by classifier, label, predicted, index;
