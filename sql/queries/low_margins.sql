-- Images that were only just seen rightly: the smallest lead of the first label over the second.
-- $classifier text = all: One classifier, or all of them.
-- $count integer = 50: How many.
select
    outcome.image_id,
    outcome.classifier,
    outcome.label,
    outcome.description,
    prediction.top_labels[2] as second,
    prediction.top_scores[1] - prediction.top_scores[2] as margin
from outcome
join prediction on prediction.image_id = outcome.image_id and prediction.classifier = outcome.classifier
where outcome.passed and not outcome.wrong and len(prediction.top_scores) > 1
    and ($classifier = 'all' or outcome.classifier = $classifier)
order by margin, outcome.image_id, outcome.classifier
limit $count;
