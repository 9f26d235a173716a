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
        when phase.phase in ('photographs', 'proof') and verdict_of(prediction.gate_score, audit.gate_lower, audit.gate_upper, prediction.wrong) in ('generator_miss', 'ambiguous') then 'label_or_gate'
        else verdict_of(prediction.gate_score, audit.gate_lower, audit.gate_upper, prediction.wrong)
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
