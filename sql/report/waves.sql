-- How the evidence for each confirmed finding grew.
select
    findings.finding,
    evidence.wave,
    (sum(evidence.pairs) over waves)::bigint as pairs,
    evidence.e_value,
    evidence.low,
    evidence.high
from evidence
join findings on findings.hypothesis_id = evidence.hypothesis_id and findings.classifier = evidence.classifier
where findings.finding is not null
window waves as (partition by findings.finding order by evidence.wave)
order by findings.finding, evidence.wave;
