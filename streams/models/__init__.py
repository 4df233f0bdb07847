"""Models beyond the task that teaches them: versions, their signatures, and the registry."""
