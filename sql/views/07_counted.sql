create or replace view counted as
select
    prompt.label,
    prompt.description,
    outcome_count.prompt_id,
    phase.phase,
    outcome_count.wave,
    outcome_count.classifier,
    outcome_count.predicted,
    outcome_count.gate_from,
    case
        when phase.phase in ('photographs', 'proof') and verdict_of(outcome_count.gate_from, audit.gate_lower, audit.gate_upper, outcome_count.wrong) in ('generator_miss', 'ambiguous') then 'label_or_gate'
        else verdict_of(outcome_count.gate_from, audit.gate_lower, audit.gate_upper, outcome_count.wrong)
    end as verdict,
    outcome_count.gate_from >= audit.gate_upper as passed,
    outcome_count.wrong,
    outcome_count.predicted <> prompt.label as strictly_wrong,
    outcome_count.images
from outcome_count
join prompt using (prompt_id)
join phase using (wave)
cross join audit;

comment on view counted is 'The view outcome, counted: how many images of a prompt and wave a classifier said the same of. What asks for sums, asks here.';
