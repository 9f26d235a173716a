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
        when outcome_count.gate_from < audit.gate_lower then 'generator_miss'
        when outcome_count.gate_from < audit.gate_upper then 'ambiguous'
        when outcome_count.wrong then 'failure'
        else 'pass'
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
