create or replace view failed_item as
select 'image' as kind, prompt_id, index, reason
from item_failure
union all
select 'caption', prompt_id, index, reason
from caption_failure
join image using (image_id);
comment on view failed_item is 'Images that could not be made or judged, and images of which the captioner would say nothing.';
