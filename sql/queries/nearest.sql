-- The images that lie nearest to an image, by the cosine of their embeddings.
-- $image text: The id of an image, or how it begins.
-- $count integer = 20: How many.
with asked as (
    select rowid as place, vector
    from embedding
    where rowid = (select min(rowid) from embedding where starts_with(image_id, $image))
),
nearest as (
    -- of norm 1, so that the inner product is the cosine
    select embedding.rowid as place, list_inner_product(embedding.vector, asked.vector) as cosine
    from embedding
    cross join asked
    where embedding.rowid <> asked.place
    order by cosine desc, place
    limit $count
),
found as (
    select embedding.image_id, embedding.wave, nearest.cosine, nearest.place
    from embedding
    join nearest on nearest.place = embedding.rowid
)
select
    found.image_id,
    found.cosine,
    prompt.label,
    prompt.description,
    string_agg(prediction.classifier || ': ' || prediction.predicted, ', ' order by prediction.classifier) as said
from found
join image on image.image_id = found.image_id and image.wave = found.wave
join prompt on prompt.prompt_id = image.prompt_id
left join prediction on prediction.image_id = found.image_id and prediction.wave = found.wave
group by found.image_id, found.cosine, found.place, prompt.label, prompt.description
order by found.cosine desc, found.place;
