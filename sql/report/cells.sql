-- Each classifier on each label's plain prompt, of the images that pass the gate (discovery).
select rate.label, rate.classifier, rate.n, rate.failures as count, rate.rate as value, rate.rate_low as low, rate.rate_high as high
from failure_rate as rate
join label using (label)
where rate.description = '' and rate.phase = 'discovery'
order by label.place, rate.classifier;
