-- Where a confirmed finding came from, and what it cost.
select
    findings.*,
    hypothesis.score,
    hypothesis.born_wave,
    parent.description as parent,
    cluster.classifier as grouped_for,
    cluster.predicted as grouped_as,
    cluster.place as part,
    (select count(*) from cluster_member where cluster_member.cluster_id = hypothesis.cluster_id) as grouped,
    (select count(*) from image where image.prompt_id = findings.prompt_id) as images_made
from findings
join hypothesis using (hypothesis_id)
left join hypothesis as parent on parent.hypothesis_id = hypothesis.parent_id
left join cluster on cluster.cluster_id = hypothesis.cluster_id
where finding = $finding;
