-- Images that show the event for one classifier, each beside its plain twin; failures first, the reserve before the tests.
select pair.index, pair.event, pair.image_id, pair.plain_image_id, described.jpeg, plain.jpeg as plain_jpeg,
    said.predicted, before.predicted as plain_predicted
from pair
join image as described on described.image_id = pair.image_id
join image as plain on plain.image_id = pair.plain_image_id
join prediction as said on said.image_id = pair.image_id and said.classifier = pair.classifier
join prediction as before on before.image_id = pair.plain_image_id and before.classifier = pair.classifier
where pair.hypothesis_id = $hypothesis and pair.classifier = $classifier and pair.both_passed
    and described.jpeg is not null and plain.jpeg is not null
order by pair.event desc, pair.plain_event, pair.phase = 'reserve' desc, pair.index, pair.label
limit $limit;
