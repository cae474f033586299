"""The page of metrics, from the table that the exposition is made from."""

from __future__ import annotations

from reference.markdown import cell, code, table
from reopen.review.metrics import METRICS

HEAD = """\
# Metrics

`reopen metrics` looks once and prints [OpenMetrics](https://openmetrics.io) text; `--to FILE` replaces a file whole, for
node_exporter's textfile collector:

```
*/5 * * * *  reopen metrics --to /var/lib/node_exporter/textfile/reopen.prom
```

Run it at each site: a site that is lost writes nothing, and `node_textfile_mtime_seconds` grows old. All metrics are gauges
without timestamps; units are in the names, instants are seconds since 1970. What could not be looked at has no sample, and
`reopen_scrape_success` is 0. What was never verified has an infinite exposure, so that an alert fires:

```
reopen_exposure_seconds > on (dataset, tier) group_left reopen_rpo_seconds
reopen_able_to_reopen{answer="yes"} == 0
reopen_evidence_head_number < max_over_time(reopen_evidence_head_number[30d])
time() - reopen_scrape_timestamp_seconds > 1800
```
"""


def page() -> str:
    """The page, as Markdown."""
    rows = [
        (code(metric.name), ", ".join(code(label) for label in metric.labels), metric.unit, cell(metric.help))
        for metric in METRICS
    ]
    return f"{HEAD}\n{table(('metric', 'labels', 'unit', 'meaning'), rows)}\n"
