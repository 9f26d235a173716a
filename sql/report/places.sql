-- Where the rows of some images lie.
select image_id, rowid as place from image where image_id in (select unnest($images::varchar[])) order by place;
