create or replace view ledger as
select
    classifier,
    label,
    phase,
    count(*) as images,
    count(*) filter (verdict = 'pass') as passes,
    count(*) filter (verdict = 'failure') as failures,
    count(*) filter (verdict = 'generator_miss') as generator_misses,
    count(*) filter (verdict = 'ambiguous') as ambiguous
from outcome
group by all;

comment on view ledger is 'Whose error it was: every image judged, counted by verdict per classifier, label and phase.';
