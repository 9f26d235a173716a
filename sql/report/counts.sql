-- How many images of a label and description a classifier said the same of.
select label, description, phase, classifier, predicted, verdict, sum(images)::bigint as images
from counted
group by all
order by images desc, label, description, phase, classifier, predicted, verdict;
