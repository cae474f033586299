"""The offline recovery kit: everything but the recovery key that brings a dataset back without Reopen."""
