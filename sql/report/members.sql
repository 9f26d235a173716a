-- Of some groups of failures a few pictures that were kept.
select cluster_member.cluster_id, cluster_member.image_id
from cluster_member
join image using (image_id)
where cluster_member.cluster_id in (select unnest($clusters::varchar[])) and image.jpeg is not null
qualify row_number() over (partition by cluster_member.cluster_id order by cluster_member.image_id) <= $count
order by cluster_member.cluster_id, cluster_member.image_id;
