-- Failures on plain prompts with their embeddings, evenly of all groups: a failure is in the smallest group that holds it.
with own as (
    select cluster_member.image_id, cluster.cluster_id, cluster.label, cluster.classifier
    from cluster_member
    join cluster using (cluster_id)
    where cluster.cluster_id in (select unnest($clusters::varchar[]))
    qualify row_number() over (
        partition by cluster_member.image_id order by cluster.predicted <> '' desc, cluster.place desc, cluster.cluster_id
    ) = 1
),
chosen as (
    select *
    from own
    order by row_number() over (partition by cluster_id order by image_id), cluster_id
    limit $count
)
select chosen.*, prediction.predicted, embedding.vector, (select count(*) from own) as total
from chosen
join embedding using (image_id)
join prediction on prediction.image_id = chosen.image_id and prediction.classifier = chosen.classifier
order by chosen.image_id;
