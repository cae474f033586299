"""Owns the watch: whoever is not the primary looks at it, again and again, and says when it is in trouble or gone.

Invariants
    W1  A look ends, whatever hangs: each place is read in a process of its own, which is killed when its time is over
        and left behind when even that does not end it.
    W2  What was never reached from here is unknown and not lost: it is never counted.
    W3  A site is lost when so many looks in a row failed, each at least half an interval after the one before it. How
        many is remembered in a file, so that a watch that was restarted goes on counting.
    W4  A site that answers in part is in trouble and not lost: a person decides.
    W5  A look changes nothing but that file. It is told, and acts on nothing. (Giving back writers that are
        held too long stands beside it: :mod:`reopen.desk.relief`.)

:mod:`reopen.recover.watch.canary` reads, :mod:`reopen.recover.watch.judge` decides, both know nothing of each other;
:mod:`reopen.recover.watch.look` puts them together. Imports nothing heavy: a canary is a process a minute and dataset.
"""
