create or replace view ledger as
select
    classifier,
    label,
    phase,
    sum(images)::bigint as images,
    coalesce(sum(images) filter (verdict = 'pass'), 0)::bigint as passes,
    coalesce(sum(images) filter (verdict = 'failure'), 0)::bigint as failures,
    coalesce(sum(images) filter (verdict = 'generator_miss'), 0)::bigint as generator_misses,
    coalesce(sum(images) filter (verdict = 'ambiguous'), 0)::bigint as ambiguous,
    coalesce(sum(images) filter (verdict = 'label_or_gate'), 0)::bigint as label_or_gate
from counted
group by all;

comment on view ledger is 'Whose error it was: every image judged, counted by verdict per classifier, label and phase.';
