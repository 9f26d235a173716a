-- All pairs of a test so far.
select hypothesis_id, classifier, sum(pairs)::bigint, sum(more)::bigint, sum(less)::bigint
from evidence
group by all;
