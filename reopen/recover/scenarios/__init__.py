"""What a drill supposes to have happened: one file a scenario, all through the same driver as a failover."""
