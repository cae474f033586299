"""Verbs on running again: plan, restore, validate, drill, fail over; and the evidence of it."""
