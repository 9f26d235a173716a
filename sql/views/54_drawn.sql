create or replace view drawn as
with twin as (
    select
        described.prompt_id,
        list_inner_product(own.vector, text_embedding.vector) - list_inner_product(other.vector, text_embedding.vector) as closer
    from text_embedding
    join prompt using (prompt_id)
    join label on label.label = prompt.label
    join image as described on described.prompt_id = text_embedding.prompt_id
    join image as plain on plain.prompt_id = label.plain_prompt_id and plain.index = described.index
    join embedding as own on own.image_id = described.image_id
    join embedding as other on other.image_id = plain.image_id
),
counted as (
    select prompt_id, count(*) as n, avg(closer) as closer, stddev_samp(closer) / sqrt(count(*)) as error
    from twin
    group by prompt_id
)
select
    prompt_id,
    n,
    closer,
    closer - 1.959963984540 * error as closer_low,
    closer + 1.959963984540 * error as closer_high,
    n >= 24 and closer - 1.959963984540 * error <= 0 as not_drawn
from counted;

comment on view drawn is 'Whether the images of a description show it: how much closer to its words they are than their plain twins, as cosines, with a 95 % interval. Not drawn: of 24 or more pairs, no closer as far as can be told; the generator passed it over, or the embedder does not see it.';
