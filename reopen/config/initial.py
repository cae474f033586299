"""Owns the settings file that ``reopen init`` writes: every key, its meaning, and a value that works at once."""

from __future__ import annotations

import json


def default_settings_text(
    *,
    site: str = "production",
    contracts: str = "data_contracts",
    home: str = ".reopen",
    keys: str = ".reopen/keys",
    vault: str = ".reopen/vault",
    replica: str = ".reopen/standby/vault",
    control: str = ".reopen/standby/control",
    scratch: str = ".reopen/standby/scratch",
) -> str:
    """A commented ``reopen.toml`` for a new user, with two sites: ``production`` and ``standby``.

    :param vault: the production site's vault, a path or URL.
    :param replica: the standby's vault.
    :param control: the store of the epoch log; it has to survive the loss of production.
    :param scratch: the folder at the standby that drills restore into.
    """
    return _TEMPLATE.format(
        site=_quoted(site),
        contracts=_quoted(contracts),
        home=_quoted(home),
        keys=_quoted(keys),
        vault=_quoted(vault),
        replica=_quoted(replica),
        control=_quoted(control),
        scratch=_quoted(scratch),
    )


def _quoted(text: str) -> str:
    # Every JSON string is a TOML basic string, as long as only ASCII is escaped away.
    return json.dumps(text, ensure_ascii=False)


_TEMPLATE = """\
# The settings of Reopen. Relative paths count from the folder of this file.
#
# Each key can be overridden by the environment: REOPEN_SITE, REOPEN_HOME, REOPEN_CONTRACTS and REOPEN_KEYS for the
# first table, and with two underscores for what lies deeper, as in REOPEN_SITES__STANDBY__VAULT.

[reopen]
# The site that this machine belongs to, one of those below.
site = {site}
# The folder of data contracts: one *.odcs.yaml file for each dataset that must survive.
contracts = {contracts}
# Where this site keeps its own state. Nothing in it is needed for a recovery, except the keys when they are here.
home = {home}
# The folder of key files. Keep a copy of the recovery key elsewhere: without it no vault can be read.
keys = {keys}

[sites.production]
role = "primary"
# Where the copies go: a folder, or a URL such as s3://bucket/prefix. Credentials come from the environment.
vault = {vault}

[sites.standby]
role = "standby"
# The replica. It has to survive what destroys production: other disks, better another place.
vault = {replica}
# The log of who may act. It has one home, which has to survive the loss of production too.
control = {control}
# Drills restore into this folder and empty it afterwards.
scratch = {scratch}
# Where consumers find out what serves after a failover (serving.json, serving.duckdb); beside the vault when left out.
# serving = ".reopen/standby/serving"

# Commands of a site that a failover calls: quiesce, final_sync, unquiesce, fence, unfence, publish. Each is told by
# REOPEN_STEP, REOPEN_EPOCH, REOPEN_SITE and REOPEN_PLAN; `check` exits 0 for done and 3 for not done. For example:
# [sites.production.hooks]
# fence = {{ command = ["/opt/site/revoke-writers"], check = ["/opt/site/fenced"], enforces = true }}

# What a tier promises where a contract is silent. Tier 1 reopens first.
#   rpo: how much data, as time, may be lost      rto: how long it may take until it runs again
#   temperature: "cold" (restored when needed), "warm" (kept restored) or "hot" (warm, and views are ready)
#   approval: true when a person has to approve a plan that moves a dataset of the tier
#   retention: which snapshots are kept, for example {{ daily = 14, within = "2d" }}; without one, all of them
[tiers.1]
rpo = "15m"
rto = "1h"
temperature = "cold"

[tiers.2]
rpo = "4h"
rto = "8h"
temperature = "cold"

[tiers.3]
rpo = "24h"
rto = "3d"
temperature = "cold"

[notify]
# Apprise URLs of those who are told of everything. Secrets stand in the environment: ${{NAME}} in a URL is the value of
# that variable, as in "slack://${{SLACK_TOKEN}}/#on-call". `reopen notify test` tries every channel.
urls = []
# Whether owners are told what concerns their datasets, by the `support` channels of their contracts.
owners = true
# The mail server for owners' mailto: addresses, for example
# "mailtos://reopen:${{SMTP_PASSWORD}}@smtp.example.org?from=reopen@example.org"; empty: they get no mail.
mail = ""
# How long a channel may take for one notice. A recovery never waits for one.
timeout = "10s"

[notify.events]
# Who is told of one event, beside those above: a list of URLs; {{ only = [URLs] }} for nobody else; "off" for nobody.
# `reopen notify show` lists the events and who is told of each.
# approval-needed = ["pover://${{PUSHOVER_USER}}@${{PUSHOVER_TOKEN}}"]
# tier-restored = "off"

[limits]
# Threads that read, compress and seal; 0 stands for one a core.
workers = 0
# Memory for checking restored data.
validation_memory = "1GB"
# How fast a replica is written at most, for example "50MiB/s"; empty: as fast as it goes.
replicate_rate = ""

[recovery]
# How fast the restores of a failover or drill read the vault at most, all together, for example "100MiB/s"; empty: as
# fast as it goes.
rate = ""
# How long a dataset that failed waits for `reopen decide` (retry, skip, abort) before the next tier begins without it.
# "auto": an hour where somebody sits at a terminal and is asked; in a flow a quarter of the dataset's RTO, 5 minutes at
# least and an hour at most; not at all for a command in a pipe. "0s": nobody is ever waited for.
decide_within = "auto"

[watch]
# The primary is looked at from another site this often (`reopen watch`, or its deployment): its vault, and a few bytes
# of one file of each dataset of the first tier.
every = "1m"
# A place that has not answered for so long does not answer.
timeout = "10s"
# So many looks in a row that fail make the primary lost: people are told, and where it is deployed a failover begins,
# which waits for approval.
failures = 3
# What lasts is told again this often.
remind = "1h"

[heartbeat]
# A dead man's switch: each of these jobs calls an address of somebody else's when it has done its work, and that
# observer (healthchecks.io, or one that works like it) tells people when no call came: it is the only one who notices
# that this machine is gone. Called with /start behind it at the begin, with /fail when the job could not. Addresses are
# secrets: "${{NAME}}" is the value of that variable of the environment. Empty: nobody is told.
watch = ""
snapshot = ""
verify = ""
# How long a call may take. A job never waits longer for one, and none fails by it.
timeout = "5s"

[shards]
# Where flows have the shards of large work done: "threads" of the flow's process, "processes" of its host, or "dask"
# (needs the extra `reopen[dask]`), whose workers reach the vault, the data and the keys under the same paths.
runner = "threads"
# Processes, or workers of a temporary Dask cluster; 0 stands for one a core.
workers = 0
# The scheduler of a Dask cluster, for example "tcp://10.0.0.5:8786"; without one a temporary cluster is started.
address = ""

[prefect]
# `reopen up` runs a Prefect server, workers and the schedules of this site. The port of the server's page, on loopback.
port = 4200
# So many flow runs at a time, tier 1 first; those of a recovery and the watch never wait for others.
runs = 4
"""
