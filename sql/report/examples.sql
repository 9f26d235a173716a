-- Pairs to show of findings: $failing of each in which the event is the description's doing, $passing in which it does not
-- happen; the reserve before the tests.
with asked as (
    select unnest($hypotheses::varchar[]) as hypothesis_id, unnest($classifiers::varchar[]) as classifier
),
found as (
    select
        pair.hypothesis_id, pair.classifier, pair.index, pair.image_id, pair.plain_image_id,
        pair.event and not pair.plain_event as flips,
        row_number() over (
            partition by pair.hypothesis_id, pair.classifier, pair.event and not pair.plain_event
            order by pair.phase = 'reserve' desc, pair.index, pair.label
        ) as place
    from asked
    join pair on pair.hypothesis_id = asked.hypothesis_id and pair.classifier = asked.classifier
    where pair.both_passed and (pair.event and not pair.plain_event or not pair.event)
)
select
    found.hypothesis_id, found.classifier, found.index, found.image_id, found.plain_image_id, found.flips,
    said.predicted, before.predicted as plain_predicted
from found
join prediction as said on said.image_id = found.image_id and said.classifier = found.classifier
join prediction as before on before.image_id = found.plain_image_id and before.classifier = found.classifier
where found.place <= if(found.flips, $failing, $passing)
order by found.hypothesis_id, found.classifier, found.flips desc, found.place;
