"""The steps of the scheduler: each reads documents, decides, enqueues tasks, commits, and continues.

Every delivery (a message, a task, or a request of the API) has a *key*, its idempotence key: a repeated delivery has
the same key. Documents store keys. ``last_event`` holds the key of the last commit, by which a handler recognizes its
own commit of unknown outcome. ``deliveries`` of a trigger record holds the keys of the deliveries that contained the
trigger.
"""
