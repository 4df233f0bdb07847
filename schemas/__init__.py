"""What a record is: subjects, wire formats, contracts on data."""
