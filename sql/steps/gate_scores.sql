-- Every image that the gate judged: plain or described, its score, and whether it passed.
select
    image.image_id,
    prompt.label,
    case when prompt.description = '' then 'plain' else 'described' end as kind,
    image.gate_score as score,
    image.gate_score >= audit.gate_upper as passed
from image
join prompt on prompt.prompt_id = image.prompt_id
cross join audit
