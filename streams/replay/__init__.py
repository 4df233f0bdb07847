"""What was published, made again: audit, explain, and what a change would have led to."""
