-- What was confirmed, the largest effect first.
select
    finding, classifier, label, predicted, description, status, effect, effect_low, effect_high,
    rate, baseline_rate, pairs, e_value, q_value, provenance
from findings
where status = 'confirmed'
order by finding;
