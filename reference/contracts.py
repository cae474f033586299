"""The page of contract keys, from the tables that the reader of contracts itself goes by."""

from __future__ import annotations

from reference.markdown import cell, code, table
from reopen.contracts.draft import NAME_PATTERN, PROPERTIES
from reopen.contracts.model import COUNT_RULES, WITHIN_RULES
from reopen.contracts.servers import SERVER_TYPES
from reopen.contracts.service import LEVELS
from reopen.contracts.standard import supported_versions

HEAD = """\
# Contract keys

A contract is a file of the [Open Data Contract Standard](https://bitol-io.github.io/open-data-contract-standard/), one for
each dataset, named `*.odcs.yaml`, in the folder that [`contracts`](settings.md) names. `reopen contracts lint` says all that
is wrong with all of them, with line numbers; `reopen contracts show` what they promise. What the standard has and this page
does not name is left to other tools.
"""

SERVERS = """\
Where the dataset lives at each site: one entry whose `server` is the name of the site (else whose `environment` is).

| key | meaning |
| --- | --- |
| `type` | {types}. Servers of no site are left to other tools, whatever their type. |
| `path` | For `local`: a file, a folder or a glob. Relative paths count from the settings file. |
| `location` | For `s3` and `custom`: a URL such as `s3://bucket/orders/*.parquet`. |
| `format` | `parquet` or `csv` make it a table that is profiled and checked; anything else is files. |

The folder is everything before the first segment with a wildcard; no two sites of a dataset may overlap.
"""

REST = """\
## The table

| key | meaning |
| --- | --- |
| `schema[].properties` | The columns: `logicalType`, `physicalType`, `required`, `unique`, `primaryKey`, `enum`, `logicalTypeOptions` and `relationships` each become checks of a restored copy. |
| `schema[].quality`, `properties[].quality` | Rules: the library's metrics (`rowCount`, `nullValues`, `missingValues`, `invalidValues`, `duplicateValues`), `sql`, and `custom` with Great Expectations. One operator each; `severity: error` stops a promotion, anything else warns. |
| `properties[].classification` | Other than `public`: values of the column stand in no profile and no result. |

What is checked and how is in [0002](../0002-validation.md); a rule that cannot be checked is listed as skipped, with its
reason.

## People

| key | meaning |
| --- | --- |
| `team` | The owner: the team's `name`, else the member with the role `owner`. |
| `support` | How owners are told: `url` is an Apprise URL, or `mailto:`; `${NAME}` in it is a variable of the environment. `scope` says of what: `notifications` of everything, `issues` of all but routine, `announcements` of where the business runs, `interactive` of that and of what people are asked; none of everything. |
| `description.purpose` | Shown beside the dataset. |
"""


def page() -> str:
    """The page, as Markdown."""
    versions = ", ".join(code(version) for version in supported_versions())
    head = table(
        ("key", "meaning"),
        [
            ("`apiVersion`", f"The version of the standard: {versions}."),
            ("`kind`", "`DataContract`."),
            ("`name`", f"Names the dataset, else `id` does: {code(NAME_PATTERN.pattern)}."),
            ("`id`, `version`, `status`", "As the standard asks; recorded with every snapshot."),
        ],
    )
    levels = table(("property", "meaning"), ((code(name), cell(text)) for name, text in LEVELS.items()))
    ours = table(("property", "meaning"), ((code(name), cell(text)) for name, text in PROPERTIES.items()))
    keep = ", ".join(code(name) for name in (*COUNT_RULES, *WITHIN_RULES))
    types = ", ".join(code(name) for name in SERVER_TYPES)
    return "\n".join(
        [
            HEAD,
            f"## The head\n\n{head}\n",
            f"## `servers`\n\n{SERVERS.format(types=types)}",
            f"## `slaProperties`\n\n{levels}\n\nRules of `keep`: {keep}. They are told in [0004](../0004-retention.md).\n",
            f"## `customProperties` of vendor `reopen`\n\n{ours}\n",
            REST,
        ]
    )
