-- Photographs that are not used, or could not be read, and why.
select name, label, reason
from photograph
where reason is not null
union all
select photograph.name, photograph.label, item_failure.reason
from item_failure
join prompt using (prompt_id)
join photograph on photograph.label = prompt.label and photograph.index = item_failure.index and prompt.text = 'photographs'
order by name;
