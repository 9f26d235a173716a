create or replace view plain_rate as
select
    label.label,
    label.place,
    rate.classifier,
    sum(rate.n)::bigint as n,
    sum(rate.failures)::bigint as failures,
    sum(rate.failures) / nullif(sum(rate.n), 0) as rate,
    true_rate_low(wilson_low(sum(rate.failures), sum(rate.n)), gate_error_of('plain')) as rate_low,
    true_rate_high(wilson_high(sum(rate.failures), sum(rate.n)), gate_error_of('plain')) as rate_high,
    sum(rate.strict_failures)::bigint as strict_failures
from failure_rate as rate
join label on label.plain_prompt_id = rate.prompt_id
where rate.phase in ('discovery', 'photographs', 'proof')
group by label.label, label.place, rate.classifier;
comment on view plain_rate is 'How often each classifier fails on a label as it is: on plain images of the discovery, or, where nothing is generated, on all of its photographs. Of images that pass the gate.';
