create or replace view pair as
select
    hypothesis.hypothesis_id,
    described.classifier,
    described.phase,
    described.wave,
    described.label,
    described.index,
    described.image_id,
    plain.image_id as plain_image_id,
    described.passed as passed,
    plain.passed as plain_passed,
    described.passed and plain.passed as both_passed,
    described.wrong and hypothesis.event in ('', described.predicted) as event,
    plain.wrong and hypothesis.event in ('', plain.predicted) as plain_event
from hypothesis
join hypothesis_prompt as own using (hypothesis_id)
join label on label.label = own.label
join outcome as described on described.prompt_id = own.prompt_id
join outcome as plain
    on plain.prompt_id = label.plain_prompt_id
    and plain.wave = described.wave
    and plain.index = described.index
    and plain.classifier = described.classifier
where described.wave > hypothesis.born_wave
    and hypothesis.round not in (select round from round where kind = 'photographs')
union all
select
    hypothesis.hypothesis_id,
    described.classifier,
    described.phase,
    described.wave,
    described.label,
    photograph_pair.place as index,
    photograph_pair.image_id,
    photograph_pair.plain_image_id,
    described.passed,
    plain.passed,
    described.passed and plain.passed,
    described.wrong and hypothesis.event in ('', described.predicted),
    plain.wrong and hypothesis.event in ('', plain.predicted)
from photograph_pair
join hypothesis using (hypothesis_id)
join outcome as described using (image_id)
join outcome as plain on plain.image_id = photograph_pair.plain_image_id and plain.classifier = described.classifier;

comment on view pair is 'The same index under a description and under the plain prompt: did the event happen, did both pass the gate.';
