-- Images of which one kind of model could say nothing.
select kind, count(*) as count from failed_item group by kind order by kind;
