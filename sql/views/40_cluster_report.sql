create or replace view cluster_report as
select
    cluster.cluster_id,
    cluster.round,
    cluster.classifier,
    cluster.label,
    cluster.predicted,
    cluster.place,
    (select count(*) from cluster_member where cluster_member.cluster_id = cluster.cluster_id) as failures,
    (
        select list(hypothesis.description order by hypothesis.place)
        from hypothesis where hypothesis.cluster_id = cluster.cluster_id
    ) as descriptions,
    (
        select list(caption.text order by caption.image_id)[:3]
        from cluster_member join caption using (image_id)
        where cluster_member.cluster_id = cluster.cluster_id
    ) as captions
from cluster;

comment on view cluster_report is 'Groups of failures on plain prompts, by round: size, some captions, and the descriptions drawn from them.';
