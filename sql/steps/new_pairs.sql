-- The pairs of a test wave that is whole: for each description that it tested, also those that share its prompt. What the
-- view `pair` says of the wave, from the wave's own rows alone, so that it does not grow with the audit.
with made as materialized (
    select image.image_id, image.prompt_id, image.index, prompt.label
    from chunk
    join image using (chunk_id)
    join prompt on prompt.prompt_id = image.prompt_id
    where chunk.wave = $wave
),
judged as materialized (
    select
        made.prompt_id,
        made.label,
        made.index,
        prediction.classifier,
        prediction.predicted,
        gate_score.score >= audit.gate_upper as passed,
        accepted_label.accepted is null as wrong
    from made
    join prediction using (image_id)
    join gate_score using (image_id)
    left join accepted_label on accepted_label.label = made.label and accepted_label.accepted = prediction.predicted
    cross join audit
)
select
    hypothesis.hypothesis_id,
    described.classifier,
    count(*)::bigint as pairs,
    count(*) filter (
        (described.wrong and hypothesis.event in ('', described.predicted))
        and not (plain.wrong and hypothesis.event in ('', plain.predicted))
    )::bigint as more,
    count(*) filter (
        (plain.wrong and hypothesis.event in ('', plain.predicted))
        and not (described.wrong and hypothesis.event in ('', described.predicted))
    )::bigint as less
from hypothesis
join hypothesis_prompt as own using (hypothesis_id)
join label on label.label = own.label
join judged as described on described.prompt_id = own.prompt_id
join judged as plain
    on plain.prompt_id = label.plain_prompt_id
    and plain.index = described.index
    and plain.classifier = described.classifier
where $wave > hypothesis.born_wave and described.passed and plain.passed
group by all
order by all;
