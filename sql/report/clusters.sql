-- The largest groups of failures of the last round that grouped each, and those that a confirmed finding came from.
select
    cluster_report.cluster_id, cluster_report.round, cluster_report.classifier, cluster_report.label,
    coalesce(nullif(cluster_report.predicted, ''), 'any error') as predicted, cluster_report.place, cluster_report.failures,
    coalesce(cluster_report.descriptions, []) as descriptions, coalesce(cluster_report.captions, []) as captions
from cluster_report
where cluster_id in (
    select cluster_id from cluster
    qualify row_number() over (partition by classifier, label, predicted, place order by round desc) = 1
    union
    select cluster_id from findings where status = 'confirmed'
)
order by failures desc, label, classifier, predicted, place, cluster_id;
