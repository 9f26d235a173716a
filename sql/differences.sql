-- What this audit and another (--against) differ in: plain rates and tested descriptions, the surest differences first.
with compared as (
    select
        'plain rate' as what, label, '' as description, '' as predicted, classifier,
        one.rate as here, one.rate_low as here_low, one.rate_high as here_high, one.n as here_n, '' as here_status,
        other.rate as there, other.rate_low as there_low, other.rate_high as there_high, other.n as there_n,
        '' as there_status
    from one_rates as one
    full join other_rates as other using (label, classifier)
    union all
    select
        'effect', label, description, predicted, classifier,
        one.effect, one.effect_low, one.effect_high, one.pairs, coalesce(one.status, 'not tested'),
        other.effect, other.effect_low, other.effect_high, other.pairs, coalesce(other.status, 'not tested')
    from one_tested as one
    full join other_tested as other using (label, description, predicted, classifier)
)
select
    what,
    classifier,
    label,
    description,
    predicted,
    here,
    here_low,
    here_high,
    here_n,
    there,
    there_low,
    there_high,
    there_n,
    here - there as difference,
    -- of two independent estimates (Zou and Donner 2008)
    here - there - sqrt(pow(here - here_low, 2) + pow(there_high - there, 2)) as difference_low,
    here - there + sqrt(pow(here_high - here, 2) + pow(there - there_low, 2)) as difference_high,
    here_status,
    there_status
from compared
where here_status <> there_status or (here is not null and there is not null and here <> there)
order by
    (here_status = 'confirmed') <> (there_status = 'confirmed') desc,
    greatest(difference_low, -difference_high) desc nulls last,
    what, label, description, predicted, classifier;
