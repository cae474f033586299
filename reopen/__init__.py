"""Reopen: if the place where our data lives is gone tonight, are we open tomorrow, and how do we know?

The engine. It takes copies (:mod:`reopen.protect`) and runs again from them (:mod:`reopen.recover`); everything else
serves these two. It never imports an orchestrator, so it works when the orchestrator is what was lost.

Layers, from the top; a lower one never imports a higher one::

    cli
    desk
    review | notify
    recover
    protect
    control | sources | vault
    storage
    contracts | config
    clock, ids, durations, sizes, progress
    errors

Glossary, one term a thing:

dataset         what is protected and recovered as one; a contract describes it
contract        an ODCS file: where a dataset lives, what must hold of it, how soon it must be back
tier            how critical a dataset is; tier 1 serves again before tier 2 begins to restore
objective       RTO (time until it runs again) and RPO (data that may be lost, as time)
site            a place where data lives and runs: production, standby
vault           the sealed, signed store of all copies
chunk           a run of a file's bytes, cut by content, named by its keyed hash
frame           what is compressed and sealed once: one chunk of a large file, or many small files together
pack            an immutable object of many frames with its own sealed directory
index           where each chunk is stored
run             index rows of many parts, sorted by chunk id, in a local file that is mapped and not read
tombstone       what marks packs and tables that prune is about to remove
grace           the time from a mark to the removal
origin          the writer whose chunks a pack holds, whoever signed it
manifest        every entry of a snapshot
snapshot        one committed capture of a dataset; it exists when its record exists
trust statement a root-signed document that says which keys hold now; the one with the highest number counts
closing list    what a key had signed when it ended; nothing later is believed of it
grant           the content key of an old slot, sealed again to a recovery key that was added later
recovery point  the snapshot that a recovery starts from
profile         rows, columns, types, nulls, least and greatest of a table, taken while it was captured
verdict         what a scan for damage says of a snapshot: clean, suspect, infected, unscanned
suspicion       begins at a snapshot that looks encrypted or is infected; none after it is clean until one is cleared
cleared         said of a suspect snapshot that a person looked at and found fine
store           where a vault's bytes lie: a folder, a bucket, an SFTP server
capability      what a store was seen to do: exclusive create, object lock
announcement    how a writer says it is at work, in a store that cannot create exclusively
object lock     what keeps an object from being destroyed by anybody before a date
expire          said of a snapshot that no retention rule keeps: its record goes, its bytes stay until prune
stub            the signed fact that says which record expired, so that its absence is no loss
hold            what keeps a snapshot, or a dataset, from expiring until it is released by name
flawed          said of a snapshot that is no good to recover from: incomplete, unconfirmed, damaged, infected
replica         a copy of the vault at another site
coverage        the share of a store's bytes that was read again within some days
lag             how long a snapshot took from its commit to its replica
loss            a file of a snapshot that no copy here or at the replica can give back
shard           a unit of work: seconds of reading, one task
work folder     where the files of a restore grow, in the root of its target, until it is finished
drill           a recovery into an isolated place, measured and cleaned up
failover        running the business from the standby
failback        a planned failover in the other direction
epoch           a numbered period in which one site may act; written down before anyone acts in it
fence           what keeps the site of an earlier epoch from acting
promote         to declare a restored and validated dataset the one that serves
stage           to prepare a restored version at the standby ahead of need
evidence        the signed record of a drill or failover
exposure        how old the newest verified recovery point is: the RPO we would have if disaster struck now
retired         said of a dataset whose contract was withdrawn by an explicit command; its copies stay
"""

from __future__ import annotations

__version__ = "0.1.0"
