-- The described images that show a finding.
select distinct outcome.*
from findings
join pair using (hypothesis_id, classifier)
join outcome on outcome.image_id = pair.image_id and outcome.classifier = pair.classifier
where findings.finding = $finding and pair.passed and pair.event
order by index;
