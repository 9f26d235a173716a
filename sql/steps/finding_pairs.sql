-- The images of a finding's pairs, described and plain.
select unnest([pair.image_id, pair.plain_image_id])
from findings
join pair using (hypothesis_id, classifier)
where findings.finding = $finding and pair.both_passed;
