-- Confirmed findings in the order of their strength, with the event that counts.
select findings.*, hypothesis.event
from findings
join hypothesis using (hypothesis_id)
where status = 'confirmed'
order by effect desc, classifier, findings.label, findings.description, predicted;
