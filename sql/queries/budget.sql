-- How many images each phase planned and made.
select phase, waves, planned, made from budget order by phase;
