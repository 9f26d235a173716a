create or replace view failure_rate as
select
    label,
    description,
    prompt_id,
    classifier,
    phase,
    count(*) filter (passed) as n,
    count(*) filter (passed and wrong) as failures,
    failures / nullif(n, 0) as rate,
    wilson_low(failures, n) as rate_low,
    wilson_high(failures, n) as rate_high,
    count(*) filter (passed and strictly_wrong) as strict_failures,
    count(*) as images,
    count(*) filter (wrong) as failures_without_gate,
    n / images as gate_pass_rate
from outcome
group by all;

comment on view failure_rate is 'How often each classifier is wrong per label, prompt and phase, of the images that pass the gate; 95 % Wilson intervals.';
