-- Where some images lie.
select image_id, vector
from embedding
where image_id in (select unnest($images));
