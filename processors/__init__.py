"""What to do with one record, given the state handed in. No I/O, no clock, no threads."""
