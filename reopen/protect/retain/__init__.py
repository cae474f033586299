"""Letting snapshots go: the rules, what stands above them, holds, the signed stubs."""
