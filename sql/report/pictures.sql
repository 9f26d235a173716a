-- The pictures of some images within a range of rows.
select image_id, jpeg
from image
where rowid between $first and $last and image_id in (select unnest($images::varchar[])) and jpeg is not null;
