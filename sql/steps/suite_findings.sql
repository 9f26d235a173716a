-- Confirmed findings, the largest effect first, with what a suite says of them.
select
    finding, bug, main, classifier, findings.label, event, description, findings.prompt, plain.text as plain_prompt,
    rate, baseline_rate, effect, effect_low, effect_high, pairs, provenance, hypothesis_id
from findings
join hypothesis using (hypothesis_id, label, description)
join prompt as own on own.prompt_id = findings.prompt_id
join label on label.label = own.label
join prompt as plain on plain.prompt_id = label.plain_prompt_id
where status = 'confirmed'
order by finding;
