"""What runs when and where: deployments made from the contracts. Nothing imports this package.

- :mod:`deployments.wanted` says which deployments a site has, :mod:`deployments.sync` makes the server agree with it;
  ``reopen deploy`` does both.
- :mod:`deployments.automations` says what the server does by itself when an event comes, and makes it so.
"""

from __future__ import annotations

import sys

from tasks.environment import prepare_for_arguments

prepare_for_arguments(sys.argv[1:])
