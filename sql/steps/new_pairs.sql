-- The pairs of a test wave that is whole: for each description that it tested, also those that share its prompt.
select
    hypothesis_id,
    classifier,
    count(*) filter (both_passed)::bigint as pairs,
    count(*) filter (both_passed and event and not plain_event)::bigint as more,
    count(*) filter (both_passed and plain_event and not event)::bigint as less
from pair
where wave = $wave
group by all
order by all;
