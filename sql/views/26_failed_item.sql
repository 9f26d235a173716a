create or replace view failed_item as
select 'image' as kind, prompt_id, index, reason
from item_failure
union all
select role, prompt_id, index, reason
from model_failure
join image using (image_id)
union all
select 'caption', prompt_id, index, reason
from caption_failure
join image using (image_id);
comment on view failed_item is 'Images that could not be made, those that a classifier or the embedder could say nothing of, and those that the captioner would say nothing of.';
