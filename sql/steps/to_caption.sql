-- The images of each chunk that wait for a caption.
select list(image_id order by index)
from to_caption
group by chunk_id, prompt_id
order by prompt_id, min(index);
