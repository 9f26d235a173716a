-- All pairs of a test so far, of those on generated pairs or on photographs ($tested_on).
select hypothesis_id, classifier, sum(pairs)::bigint, sum(more)::bigint, sum(less)::bigint
from evidence
join hypothesis using (hypothesis_id)
where (hypothesis.round in (select round from round where kind = 'photographs')) = ($tested_on = 'photographs')
group by all;
