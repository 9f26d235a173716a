-- Captions of the failures that a description came from.
select caption.text
from hypothesis
join cluster_member using (cluster_id)
join caption using (image_id)
where hypothesis_id = $hypothesis
order by caption.image_id
limit 5;
