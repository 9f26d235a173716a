-- Some pictures, in the order of their indices.
select image_id, jpeg
from image
where image_id in (select unnest($images)) and jpeg is not null
order by index;
