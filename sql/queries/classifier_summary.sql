-- How often each classifier fails on plain prompts.
select
    rate.classifier,
    sum(rate.n)::bigint as n,
    sum(rate.failures)::bigint as failures,
    sum(rate.failures) / nullif(sum(rate.n), 0) as rate,
    wilson_low(sum(rate.failures), sum(rate.n)) as rate_low,
    wilson_high(sum(rate.failures), sum(rate.n)) as rate_high,
    sum(rate.strict_failures) / nullif(sum(rate.n), 0) as strict_rate,
    (select count(*) from findings where findings.classifier = rate.classifier and status = 'confirmed') as confirmed
from failure_rate as rate
where rate.description = '' and rate.phase = 'discovery'
group by rate.classifier
order by rate.classifier;
