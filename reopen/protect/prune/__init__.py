"""Giving back the space of what no snapshot needs: survey, choice, repack, mark, sweep."""
