-- Captions of the first plain images, to see of what style they are.
select text
from caption
join image using (image_id)
where image.wave = 0
order by image_id
limit 200;
