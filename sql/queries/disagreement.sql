-- Images on which classifiers disagree, those that most of them see rightly first: one is alone in its error there.
-- $label text = all: One label, or all of them.
-- $count integer = 50: How many.
with found as (
    select image_id, wave, prompt_id, errors, row_number() over (order by errors, image.rowid) as place
    from image
    where image.rowid in (
        select image.rowid
        from image
        where answers > 1 and gate_score >= (select gate_upper from audit)
            and ($label = 'all' or prompt_id in (select prompt_id from prompt where label = $label))
        order by errors, image.rowid
        limit $count
    )
)
select
    found.image_id,
    prompt.label,
    prompt.description,
    found.errors as wrong,
    count(*) as classifiers,
    string_agg(prediction.classifier || ': ' || prediction.predicted, ', ' order by prediction.classifier) as said
from found
join prompt using (prompt_id)
join prediction on prediction.image_id = found.image_id and prediction.wave = found.wave
group by found.image_id, found.place, prompt.label, prompt.description, found.errors
order by found.place;
