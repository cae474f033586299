"""Mending a vault: from its own packs, and from a replica."""
