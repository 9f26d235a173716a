-- Failure rates if the gate let images pass from other scores on: does a rate hang on its bound?
-- $label text = all: One label, or all of them.
-- $description text = all: One description, `plain`, or all of them.
with bound as (
    select unnest([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]) as passes_from
    union
    select gate_upper from audit
)
select
    passes_from,
    passes_from = (select gate_upper from audit) as in_use,
    classifier,
    count(*) as n,
    count(*) filter (wrong) as failures,
    count(*) filter (wrong) / count(*) as rate,
    wilson_low(count(*) filter (wrong), count(*)) as rate_low,
    wilson_high(count(*) filter (wrong), count(*)) as rate_high
from outcome
join bound on outcome.gate_score >= bound.passes_from
where ($label = 'all' or label = $label)
    and ($description = 'all' or description = if($description = 'plain', '', $description))
group by all
order by classifier, passes_from;
