create or replace view outcome as
select
    image.image_id,
    prediction.classifier,
    prompt.label,
    prompt.prompt_id,
    prompt.description,
    wave.phase,
    chunk.wave,
    image.index,
    prediction.predicted,
    prediction.score,
    gate_score.score as gate_score,
    case
        when gate_score.score < audit.gate_lower then 'generator_miss'
        when gate_score.score < audit.gate_upper then 'ambiguous'
        when accepted_label.accepted is null then 'failure'
        else 'pass'
    end as verdict,
    gate_score.score >= audit.gate_upper as passed,
    accepted_label.accepted is null as wrong,
    prediction.predicted <> prompt.label as strictly_wrong
from prediction
join image using (image_id)
join gate_score using (image_id)
join chunk using (chunk_id)
join prompt on prompt.prompt_id = image.prompt_id
join wave on wave.wave = chunk.wave and wave.prompt_id = chunk.prompt_id
left join accepted_label on accepted_label.label = prompt.label and accepted_label.accepted = prediction.predicted
cross join audit;

comment on view outcome is 'One row per image and classifier: whose error it was, the gate judged first and the classifier second.';
