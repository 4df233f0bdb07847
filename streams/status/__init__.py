"""How a pipeline stands, told from outside by reading its topics."""
