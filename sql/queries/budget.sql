select phase, waves, planned, made from budget order by phase;
