-- Every classifier on each confirmed description.
select * from findings
where hypothesis_id in (select hypothesis_id from findings where status = 'confirmed')
order by classifier;
