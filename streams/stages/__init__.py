"""The stages of a pipeline over one set of stores: front, back, drift, and the decisions about who serves."""
