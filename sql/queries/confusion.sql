-- What each classifier says instead of the label.
select classifier, label, predicted, failures, n, rate, rate_low, rate_high
from confusion
order by failures desc, classifier, label, predicted;
