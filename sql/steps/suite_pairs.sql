-- A finding's pairs through the gate, of the reserve where it has one, and what its classifier said of both images.
select
    pair.label,
    pair.index,
    pair.image_id,
    pair.plain_image_id,
    described.predicted,
    plain.predicted as plain_predicted,
    one.jpeg,
    two.jpeg as plain_jpeg
from pair
join prediction as described on described.image_id = pair.image_id and described.classifier = pair.classifier
join prediction as plain on plain.image_id = pair.plain_image_id and plain.classifier = pair.classifier
join image as one on one.image_id = pair.image_id
join image as two on two.image_id = pair.plain_image_id
where pair.hypothesis_id = $hypothesis and pair.classifier = $classifier and pair.both_passed
    and (pair.phase = 'reserve') = $reserve
    and one.jpeg is not null and two.jpeg is not null
order by pair.index, pair.label
limit $pairs;
