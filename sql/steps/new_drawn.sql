-- Of a wave that is whole: how much closer to its words the images of each description are than their plain twins.
insert into drawn_count
with made as materialized (
    select image.prompt_id, image.index, embedding.vector
    from image
    join embedding using (image_id, wave)
    where image.wave = $wave
        and (select count(*) from text_embedding) > 0
),
twin as (
    select
        own.prompt_id,
        own.index,
        list_inner_product(own.vector, text_embedding.vector) - list_inner_product(plain.vector, text_embedding.vector) as closer
    from text_embedding
    join prompt using (prompt_id)
    join label on label.label = prompt.label
    join made as own on own.prompt_id = text_embedding.prompt_id
    join made as plain on plain.prompt_id = label.plain_prompt_id and plain.index = own.index
)
select prompt_id, $wave, count(*), sum(closer order by index), sum(closer * closer order by index)
from twin
group by prompt_id
order by prompt_id;
