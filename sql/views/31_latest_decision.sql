create or replace view latest_decision as
select * from decision
qualify row_number() over (partition by hypothesis_id, classifier order by wave desc) = 1;

comment on view latest_decision is 'What stands decided now, per hypothesis and classifier.';
