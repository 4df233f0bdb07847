"""What an author declares: the parts of a pipeline, what is legal in them, and whether they fit together."""
