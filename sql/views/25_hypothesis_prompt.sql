create or replace view hypothesis_prompt as
select every.hypothesis_id, every.place, every.prompt_id, prompt.label
from (
    select hypothesis_id, 0 as place, prompt_id from hypothesis
    union all
    select hypothesis_id, place, prompt_id from further_prompt
) as every
join prompt using (prompt_id);

comment on view hypothesis_prompt is 'The prompts that a description is tested on: one, or of a pooled one those of several labels.';
