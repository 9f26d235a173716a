-- Descriptions that are not confirmed, the strongest evidence first; `waves` is 0 where none was tested.
select question.*
from question
where status <> 'confirmed'
order by e_value desc nulls last, score desc, label, description, predicted;
