-- How the evidence for a confirmed finding grew, wave by wave.
-- $finding integer: Its number, see the query findings.
select
    evidence.wave,
    sum(evidence.pairs) over waves as pairs,
    sum(evidence.more) over waves as more,
    sum(evidence.less) over waves as less,
    evidence.e_value,
    evidence.low,
    evidence.high
from evidence
join findings on findings.hypothesis_id = evidence.hypothesis_id and findings.classifier = evidence.classifier
where findings.finding = $finding
window waves as (order by evidence.wave)
order by evidence.wave;
