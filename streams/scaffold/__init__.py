"""From a table of unknown columns to a pipeline: read it, tell what each column is for, write what an author would."""
