-- How often each classifier fails on labels as they are.
select
    rate.classifier,
    sum(rate.n)::bigint as n,
    sum(rate.failures)::bigint as failures,
    sum(rate.failures) / nullif(sum(rate.n), 0) as rate,
    true_rate_low(wilson_low(sum(rate.failures), sum(rate.n)), gate_error_of('plain')) as rate_low,
    true_rate_high(wilson_high(sum(rate.failures), sum(rate.n)), gate_error_of('plain')) as rate_high,
    sum(rate.strict_failures) / nullif(sum(rate.n), 0) as strict_rate,
    (select count(*) from findings where findings.classifier = rate.classifier and status = 'confirmed') as confirmed
from plain_rate as rate
group by rate.classifier
order by rate.classifier;
