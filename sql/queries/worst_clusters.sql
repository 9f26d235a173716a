-- The largest groups of failures: whose, of what, and what their captions say.
-- $count integer = 20: How many.
select classifier, label, coalesce(nullif(predicted, ''), 'any error') as predicted, failures, descriptions, captions, cluster_id
from cluster_report
order by failures desc, cluster_id
limit $count;
