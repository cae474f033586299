"""The report of where a business stands: are we able to reopen? What is judged, drawn and written down."""
