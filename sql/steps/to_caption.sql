-- The images that wait for a caption, in the order in which they get one.
select image_id
from to_caption
order by prompt_id, index;
