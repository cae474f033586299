"""Whether a restored dataset is fit to serve: its profile is the captured one and its contract holds.

======================  ========================================================================================
:mod:`.model`           what goes in and what comes out, and both as JSON
:mod:`.validator`       the parent's side: one long-lived child process, its time limit, its death
:mod:`.child`           the child's side: reads requests, answers, exits when its parent is gone
:mod:`.examine`         the order of one validation
:mod:`.tables`          restored files as DuckDB views
:mod:`.column_types`    one name for a column type that Arrow, SQL and contracts spell differently
:mod:`.profile`         the restored files against the snapshot's profile
:mod:`.compile`         contract schema -> specs: properties and relationships
:mod:`.quality`         contract schema -> specs: quality rules
:mod:`.specs`           what a contract compiles to
:mod:`.sql`             names and literals as SQL
:mod:`.deferred`        imports that wait until they are needed
:mod:`.engine`          specs -> Great Expectations -> outcomes; the only file that imports it
:mod:`.dialect`         how SQLAlchemy speaks to a lent DuckDB connection
======================  ========================================================================================

Importing this package loads neither DuckDB, Arrow nor Great Expectations. ``docs/0002-validation.md`` says why the
checks run this way and what they cost.
"""

from reopen.recover.checks.model import (
    CheckKind,
    CheckResult,
    CheckStatus,
    Severity,
    ValidationRequest,
    ValidationResult,
)
from reopen.recover.checks.validator import Validator, validate, validate_many

__all__ = [
    "CheckKind",
    "CheckResult",
    "CheckStatus",
    "Severity",
    "ValidationRequest",
    "ValidationResult",
    "Validator",
    "validate",
    "validate_many",
]
