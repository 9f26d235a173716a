-- Images that were only just seen rightly: the smallest lead of the first label over the second.
-- $classifier text = all: One classifier, or all of them.
-- $count integer = 50: How many.
select
    prediction.image_id,
    prediction.classifier,
    prompt.label,
    prompt.description,
    prediction.top_labels[2] as second,
    prediction.margin
from prediction
join prompt using (prompt_id)
where prediction.rowid in (
    select prediction.rowid
    from prediction
    where gate_score >= (select gate_upper from audit) and not wrong and margin is not null
        and ($classifier = 'all' or classifier = $classifier)
    order by margin, prediction.rowid
    limit $count
)
order by prediction.margin, prediction.rowid;
