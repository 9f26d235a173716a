-- Some pictures.
select image_id, jpeg from image where image_id in (select unnest($images::varchar[])) and jpeg is not null;
