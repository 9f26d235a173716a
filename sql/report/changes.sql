-- What became of each confirmed finding of another audit in this one, what is confirmed here alone, and plain rates that
-- differ; the tables are those that `beside.py` lays side by side.
with tested as (
    select
        'effect' as what, label, description, predicted, classifier,
        one.status as status, one.effect as now, one.effect_low as now_low, one.effect_high as now_high, one.pairs as now_n,
        other.status as other_status, other.effect as before, other.effect_low as before_low,
        other.effect_high as before_high, other.pairs as before_n
    from one_tested as one
    full join other_tested as other using (label, description, predicted, classifier, tested_on)
    where one.status = 'confirmed' or other.status = 'confirmed'
),
rates as (
    select
        'plain rate' as what, label, '' as description, 'any error' as predicted, classifier,
        null as status, one.rate as now, one.rate_low as now_low, one.rate_high as now_high, one.n as now_n,
        null as other_status, other.rate as before, other.rate_low as before_low, other.rate_high as before_high,
        other.n as before_n
    from one_rates as one
    join other_rates as other using (label, classifier)
),
compared as (
    select
        *,
        now - before as difference,
        -- of two independent estimates (Zou and Donner 2008)
        now - before - sqrt(pow(now - now_low, 2) + pow(before_high - before, 2)) as difference_low,
        now - before + sqrt(pow(now_high - now, 2) + pow(before - before_low, 2)) as difference_high
    from (select * from tested union all select * from rates)
)
select
    case
        when what = 'plain rate' then if(difference > 0, 'worse', 'better')
        when status is null then 'not asked again'
        when other_status is null then 'not asked before'
        when status = 'confirmed' and other_status = 'confirmed' then if(difference_low > 0, 'worse', 'unchanged')
        when other_status = 'confirmed' then if(difference_high < 0, 'fixed', 'unclear')
        else if(difference_low > 0, 'new', 'unclear')
    end as kind,
    what, label, description, predicted, classifier,
    now, now_low, now_high, now_n, before, before_low, before_high, before_n,
    difference, difference_low, difference_high
from compared
where what = 'effect' or difference_low > 0 or difference_high < 0
order by
    list_position(['new', 'worse', 'unchanged', 'fixed', 'unclear', 'not asked before', 'not asked again', 'better'], kind),
    what, greatest(difference_low, -difference_high) desc nulls last, label, description, predicted, classifier;
