"""Changing who may do what: keys that come, keys that end, old packs for new recovery keys, trials."""
