create or replace view gate_bound as
select unnest([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]) as passes_from
union
select gate_lower from audit
union
select gate_upper from audit;

comment on view gate_bound is 'Scores of the gate at which images are counted apart: those in use, and some to compare with.';
