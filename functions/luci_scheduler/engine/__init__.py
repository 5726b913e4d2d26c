"""The steps of the scheduler: each reads documents, decides, enqueues tasks, commits, and continues."""
