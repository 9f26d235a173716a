-- The labels, and how many images of their plain prompts pass the gate.
select
    label.label,
    prompt.text as prompt,
    (select list(accepted order by accepted) from accepted_label where accepted_label.label = label.label) as accepted,
    coalesce(gate_pass.images, 0) as images,
    coalesce(gate_pass.passed, 0) as passed,
    gate_pass.rate,
    gate_pass.rate_low,
    gate_pass.rate_high,
    coalesce(gate_pass.few, false) as few
from label
join prompt on prompt.prompt_id = label.plain_prompt_id
left join gate_pass on gate_pass.label = label.label
order by label.place;
