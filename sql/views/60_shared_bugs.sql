create or replace view shared_bugs as
select
    label,
    description,
    predicted,
    count(*) as classifiers,
    list(classifier order by classifier) as shared_by,
    min(effect) as smallest_effect,
    max(effect) as largest_effect
from findings
where status = 'confirmed'
group by label, description, predicted;

comment on view shared_bugs is 'Which classifiers share which confirmed finding.';
