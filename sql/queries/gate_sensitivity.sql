-- Failure rates if the gate let images pass from other scores on: does a rate hang on its bound?
-- $label text = all: One label, or all of them.
-- $description text = all: One description, `plain`, or all of them.
with summed as (
    select classifier, gate_from, wrong, sum(images) as images
    from counted
    where ($label = 'all' or label = $label)
        and ($description = 'all' or description = if($description = 'plain', '', $description))
    group by all
),
reached as (
    select
        passes_from,
        classifier,
        sum(images)::bigint as n,
        coalesce(sum(images) filter (wrong), 0)::bigint as failures
    from summed
    join gate_bound on summed.gate_from >= gate_bound.passes_from
    group by all
)
select
    passes_from,
    passes_from = (select gate_upper from audit) as in_use,
    classifier,
    n,
    failures,
    failures / n as rate,
    wilson_low(failures, n) as rate_low,
    wilson_high(failures, n) as rate_high
from reached
order by classifier, passes_from;
