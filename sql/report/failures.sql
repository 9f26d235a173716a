-- Failures, one row per image and classifier.
select
    outcome.image_id, outcome.classifier, outcome.label, outcome.description, outcome.phase, outcome.index,
    outcome.predicted, round(outcome.score, 4) as score, round(outcome.gate_score, 4) as gate_score, caption.text as caption
from outcome
left join caption using (image_id)
where outcome.verdict = 'failure'
order by outcome.description <> '', outcome.label, outcome.classifier, outcome.predicted, outcome.image_id
limit $count;
