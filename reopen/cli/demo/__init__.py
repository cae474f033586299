"""The main job: a small but real business loses its production site and opens again at the standby.

``business`` makes the data and changes it, ``story`` runs the commands in order, as a user would type them.
"""
