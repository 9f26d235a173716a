create or replace view drawn as
with summed as (
    select prompt_id, sum(n)::bigint as n, sum(total) as total, sum(squares) as squares
    from drawn_count
    group by prompt_id
),
measured as (
    select
        prompt_id,
        n,
        total / n as closer,
        sqrt(greatest(squares - total * total / n, 0) / nullif(n - 1, 0) / n) as error
    from summed
)
select
    prompt_id,
    n,
    closer,
    closer - 1.959963984540 * error as closer_low,
    closer + 1.959963984540 * error as closer_high,
    n >= 24 and closer - 1.959963984540 * error <= 0 as not_drawn
from measured;

comment on view drawn is 'Whether the images of a description show it: how much closer to its words they are than their plain twins, as cosines, with a 95 % interval. Not drawn: of 24 or more pairs, no closer as far as can be told; the generator passed it over, or the embedder does not see it.';
