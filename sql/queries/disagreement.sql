-- Images on which classifiers disagree, those that most of them see rightly first: one is alone in its error there.
-- $label text = all: One label, or all of them.
-- $count integer = 50: How many.
select
    image_id,
    label,
    description,
    count(*) filter (wrong) as wrong,
    count(*) as classifiers,
    string_agg(classifier || ': ' || predicted, ', ' order by classifier) as said
from outcome
where passed and ($label = 'all' or label = $label)
group by image_id, label, description
having count(distinct predicted) > 1
order by wrong, image_id
limit $count;
