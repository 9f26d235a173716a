-- Every image that the gate judged: plain or described, its score, and whether it passed.
select
    image.image_id,
    prompt.label,
    case when prompt.description = '' then 'plain' else 'described' end as kind,
    gate_score.score,
    gate_score.score >= audit.gate_upper as passed
from image
join gate_score using (image_id)
join prompt on prompt.prompt_id = image.prompt_id
cross join audit
