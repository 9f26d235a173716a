-- Failures on plain prompts of which no description was put to the test, and why.
with failing as (
    select label, classifier, predicted, sum(images)::bigint as failures
    from counted
    where description = '' and verdict = 'failure'
    group by all
),
described as (
    select own.label, hypothesis.event, bool_or(evidence.wave is not null) as tested
    from hypothesis
    join hypothesis_prompt as own using (hypothesis_id)
    left join evidence using (hypothesis_id)
    group by all
),
known as (
    select failing.*, bool_or(described.tested) as tested
    from failing
    left join described on described.label = failing.label and described.event in ('', failing.predicted)
    group by all
),
captioned as (
    select outcome.label, outcome.classifier, outcome.predicted, count(caption.image_id) as captions
    from outcome
    left join caption using (image_id)
    where outcome.description = '' and outcome.verdict = 'failure'
    group by all
)
select
    known.classifier, known.label, known.predicted, known.failures,
    case
        when known.tested = false then 'its description waits for a test'
        when known.failures < (audit.settings ->> 'min_group')::integer then 'too few to group'
        when coalesce(captioned.captions, 0) = 0 then 'none of them has a caption'
        else 'no sentence of its captions sets them apart, or others of the label did more'
    end as reason
from known
left join captioned using (label, classifier, predicted)
cross join audit
where known.tested is distinct from true
order by failures desc, classifier, label, predicted;
