-- Of some groups of failures a few images.
select cluster_member.cluster_id, cluster_member.image_id
from cluster_member
where cluster_member.cluster_id in (select unnest($clusters::varchar[]))
qualify row_number() over (partition by cluster_member.cluster_id order by cluster_member.image_id) <= $count
order by cluster_member.cluster_id, cluster_member.image_id;
