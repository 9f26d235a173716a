-- The other wordings and classifiers of a finding's bug.
select finding, classifier, label, predicted, description, effect, pairs, origin, main
from findings
where bug = $bug and finding <> $finding
order by finding;
