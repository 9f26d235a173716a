-- Every description by what it was tested on: its rates on photographs beside those on generated images.
with single as (
    select
        label, description, predicted, classifier, prompt_id,
        bool_or(status = 'confirmed' and tested_on = 'photographs') as on_photographs,
        bool_or(status = 'confirmed' and tested_on = 'generated') as on_generated,
        max(rate) filter (tested_on = 'photographs') as photographs_rate,
        max(baseline_rate) filter (tested_on = 'photographs') as photographs_baseline,
        max(pairs) filter (tested_on = 'photographs') as photographs_pairs,
        max(effect_low) filter (tested_on = 'photographs') as photographs_effect_low,
        max(effect_high) filter (tested_on = 'photographs') as photographs_effect_high,
        max(rate) filter (tested_on = 'generated') as generated_rate,
        max(baseline_rate) filter (tested_on = 'generated') as generated_baseline,
        max(pairs) filter (tested_on = 'generated') as generated_pairs,
        max(effect_low) filter (tested_on = 'generated') as generated_effect_low,
        max(effect_high) filter (tested_on = 'generated') as generated_effect_high
    from findings
    group by all
)
select
    case
        when on_photographs and on_generated then 'both'
        when on_photographs then 'photographs'
        when on_generated then 'generated'
        else 'not confirmed'
    end as proved_on,
    * exclude (on_photographs, on_generated, prompt_id)
from single
order by on_photographs and on_generated desc, on_photographs or on_generated desc, photographs_effect_low desc nulls last, generated_effect_low desc nulls last, label, description, classifier;
