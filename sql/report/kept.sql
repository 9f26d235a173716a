-- Within a range of rows those of some images whose picture was kept.
select image_id
from image
where rowid between $first and $last and image_id in (select unnest($images::varchar[])) and jpeg is not null;
