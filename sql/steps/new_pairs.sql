-- The pairs of a wave that is whole: for each description that it has images of, also those that share its prompt. What
-- the view `pair` says of the wave, counted, from the wave's own rows alone, so that it does not grow with the audit.
with judged as materialized (
    select prompt_id, index, classifier, predicted, gate_score >= audit.gate_upper as passed, wrong
    from prediction
    cross join audit
    where wave = $wave
)
select
    hypothesis.hypothesis_id,
    described.classifier,
    count(*) as images,
    count(*) filter (described.passed) as n,
    count(*) filter (described.passed and described.wrong and hypothesis.event in ('', described.predicted)) as failures,
    count(*) filter (plain.passed) as baseline_n,
    count(*) filter (plain.passed and plain.wrong and hypothesis.event in ('', plain.predicted)) as baseline_failures,
    count(*) filter (described.passed and plain.passed) as pairs,
    count(*) filter (
        described.passed and plain.passed
        and (described.wrong and hypothesis.event in ('', described.predicted))
        and not (plain.wrong and hypothesis.event in ('', plain.predicted))
    ) as more,
    count(*) filter (
        described.passed and plain.passed
        and (plain.wrong and hypothesis.event in ('', plain.predicted))
        and not (described.wrong and hypothesis.event in ('', described.predicted))
    ) as less,
    count(*) filter (described.wrong and hypothesis.event in ('', described.predicted)) as failures_without_gate,
    count(*) filter (plain.wrong and hypothesis.event in ('', plain.predicted)) as baseline_failures_without_gate
from hypothesis
join hypothesis_prompt as own using (hypothesis_id)
join label on label.label = own.label
join judged as described on described.prompt_id = own.prompt_id
join judged as plain
    on plain.prompt_id = label.plain_prompt_id
    and plain.index = described.index
    and plain.classifier = described.classifier
where $wave > hypothesis.born_wave
    and hypothesis.round not in (select round from round where kind = 'photographs')
group by all
order by all;
