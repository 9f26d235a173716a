-- Findings that several classifiers share.
select label, description, predicted, classifiers, shared_by, smallest_effect, largest_effect
from shared_bugs
order by classifiers desc, largest_effect desc, label, description, predicted;
