"""What running under Prefect adds to the engine's verbs: shards and steps as task runs, which errors are tried again,
progress and artifacts. A verb that gains none of these is called by its flow directly.

- :mod:`tasks.environment` makes Prefect quiet and keeps it in a home of our own; import it before Prefect.
- :mod:`tasks.attempts` owns the one task and its retries, :mod:`tasks.shards` and :mod:`tasks.steps` what runs in it.
- :mod:`tasks.progress` and :mod:`tasks.artifacts` own what the Prefect UI shows, :mod:`tasks.watching` what the caller
  of a flow sees.
"""
