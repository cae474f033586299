"""Copying a vault to another site: what it lacks, then the copying."""
