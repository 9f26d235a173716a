-- Each wave in which a description was tested on a classifier.
select wave, pairs, more, less, e_value, low, high
from evidence
where hypothesis_id = $hypothesis and classifier = $classifier
order by wave;
