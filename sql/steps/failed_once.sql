-- The images of a wave that failed and were not tried a second time, in their order.
select chunk.prompt_id, chunk.first_index, chunk.images, item_failure.index
from item_failure
join chunk using (chunk_id)
where chunk.wave = $wave and not item_failure.asked_again
order by chunk.prompt_id, chunk.first_index, item_failure.index
