-- Descriptions that were tested and not confirmed, and why.
select label, description, predicted, classifier, effect, effect_low, effect_high, pairs, e_value, reason, status
from findings
where hypothesis_id not in (select hypothesis_id from findings where status = 'confirmed')
qualify row_number() over (partition by hypothesis_id order by e_value desc, classifier) = 1
order by e_value desc, label, description;
