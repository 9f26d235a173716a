-- Of some images those whose picture was not kept, and what it was made of.
select image.image_id, prompt.label, prompt.text, prompt.description, image.wave, image.index
from image
join prompt using (prompt_id)
where image.image_id in (select unnest($images)) and image.jpeg is null
order by image.prompt_id, image.index;
