"""Who is told, and in which words. The words are files in ``templates/``, written before the disaster.

Recovery is handed :meth:`reopen.notify.channels.AppriseNotifier.__call__` and imports nothing of this room.
"""
