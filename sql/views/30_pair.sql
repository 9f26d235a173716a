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
where described.wave > hypothesis.born_wave;

comment on view pair is 'The same index under a description and under the plain prompt: did the event happen, did both pass the gate.';
