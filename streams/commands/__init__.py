"""The commands of `headrace`, one file a noun; `headrace.streams.cli` brings them together."""
