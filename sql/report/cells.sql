-- Each classifier on each label as it is, of the images that pass the gate.
select label, classifier, n, failures as count, rate as value, rate_low as low, rate_high as high
from plain_rate
order by place, classifier;
