create or replace view failure_rate as
with summed as (
    select
        label,
        description,
        prompt_id,
        classifier,
        phase,
        coalesce(sum(images) filter (passed), 0)::bigint as n,
        coalesce(sum(images) filter (passed and wrong), 0)::bigint as failures,
        coalesce(sum(images) filter (passed and strictly_wrong), 0)::bigint as strict_failures,
        sum(images)::bigint as images,
        coalesce(sum(images) filter (wrong), 0)::bigint as failures_without_gate
    from counted
    group by all
),
judged as (
    select *, case when description = '' then gate_error_of('plain') else gate_error_of('described') end as gate_error
    from summed
)
select
    label,
    description,
    prompt_id,
    classifier,
    phase,
    n,
    failures,
    failures / nullif(n, 0) as rate,
    true_rate_low(wilson_low(failures, n), gate_error) as rate_low,
    true_rate_high(wilson_high(failures, n), gate_error) as rate_high,
    strict_failures,
    images,
    failures_without_gate,
    n / images as gate_pass_rate
from judged;

comment on view failure_rate is 'How often each classifier is wrong per label, prompt and phase, of the images that pass the gate; 95 % Wilson intervals, widened by the gate''s error where that was measured.';
