-- How often each classifier is wrong, by label and description, with its interval and n.
-- $label text = all: One label, or all of them.
-- $classifier text = all: One classifier, or all of them.
select
    label,
    description,
    classifier,
    phase,
    n,
    failures,
    rate,
    rate_low,
    rate_high,
    gate_pass_rate
from failure_rate
where ($label = 'all' or label = $label) and ($classifier = 'all' or classifier = $classifier)
order by rate desc nulls last, n desc, label, description, classifier, phase;
