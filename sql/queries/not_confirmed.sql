-- Descriptions that were not confirmed, tested or not, and why.
select label, description, predicted, classifier, effect, effect_low, effect_high, pairs, waves, e_value, origin, round, reason, status, not_drawn
from question
where status <> 'confirmed'
order by e_value desc nulls last, score desc, label, description, predicted;
