-- The images that lie nearest to an image, by the cosine of their embeddings.
-- $image text: The id of an image, or how it begins.
-- $count integer = 20: How many.
with asked as (
    select image_id, vector
    from embedding
    where starts_with(image_id, $image)
    order by image_id
    limit 1
)
select
    embedding.image_id,
    list_cosine_similarity(embedding.vector, asked.vector) as cosine,
    prompt.label,
    prompt.description,
    (select string_agg(classifier || ': ' || predicted, ', ' order by classifier)
        from prediction where prediction.image_id = embedding.image_id) as said
from embedding
cross join asked
join image on image.image_id = embedding.image_id
join prompt on prompt.prompt_id = image.prompt_id
where embedding.image_id <> asked.image_id
order by cosine desc, embedding.image_id
limit $count;
