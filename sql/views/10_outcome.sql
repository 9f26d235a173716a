create or replace view outcome as
select
    prediction.image_id,
    prediction.classifier,
    prompt.label,
    prediction.prompt_id,
    prompt.description,
    phase.phase,
    prediction.wave,
    prediction.index,
    prediction.predicted,
    prediction.score,
    prediction.gate_score,
    case
        when prediction.gate_score < audit.gate_lower then 'generator_miss'
        when prediction.gate_score < audit.gate_upper then 'ambiguous'
        when prediction.wrong then 'failure'
        else 'pass'
    end as verdict,
    prediction.gate_score >= audit.gate_upper as passed,
    prediction.wrong,
    prediction.predicted <> prompt.label as strictly_wrong,
    prediction.margin
from prediction
join prompt using (prompt_id)
join phase using (wave)
cross join audit;

comment on view outcome is 'One row per image and classifier: whose error it was, the gate judged first and the classifier second.';
