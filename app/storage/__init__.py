"""What the log asks of a database, and the two answers."""
