-- Some pictures that show a finding.
select pair.image_id, pair.phase
from pair
where hypothesis_id = $hypothesis and classifier = $classifier and both_passed and event and not plain_event
order by pair.phase = 'reserve' desc, pair.index
limit 5;
