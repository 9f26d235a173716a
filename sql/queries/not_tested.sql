-- Failures on plain prompts whose group led to no description that was put to the test.
select classifier, label, predicted, sum(images)::bigint as failures
from counted
where description = '' and verdict = 'failure'
    and not exists (
        select 1 from hypothesis join evidence using (hypothesis_id) join hypothesis_prompt as own using (hypothesis_id)
        where own.label = counted.label and hypothesis.event in ('', counted.predicted)
    )
group by all
order by failures desc, classifier, label, predicted;
