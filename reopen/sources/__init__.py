"""What can be protected, one file a kind."""
