-- What a data set says of some pictures, and the pictures.
select
    picture.image_id, picture.label, picture.description, prompt.text as prompt, picture.phase, picture.wave,
    picture.index, picture.gate_score, picture.passed, picture.failures, picture.classifiers,
    to_json(picture.predicted)::varchar as predicted, picture.caption, audit.seed, audit.generator, image.jpeg
from picture
join image using (image_id)
join prompt using (prompt_id)
cross join audit
where picture.image_id in (select unnest($images)) and image.jpeg is not null
order by picture.label, picture.description, picture.index, picture.image_id;
