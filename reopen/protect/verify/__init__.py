"""Checking that copies are what they claim to be: records and tables, packs, samples that remember."""
