"""What runs when and where: deployments made from the contracts. Nothing imports this package.

- :mod:`deployments.wanted` says which deployments a site has, :mod:`deployments.sync` makes the server agree with it;
  ``python -m deployments`` does both.
- :mod:`deployments.automations` says what the server does by itself when an event comes, and makes it so.
- ``prefect.yaml`` is the same for ``prefect deploy --all``, for those who keep their schedules there.
"""

from __future__ import annotations

import sys

from tasks.environment import prepare_for_arguments

prepare_for_arguments(sys.argv[1:])
