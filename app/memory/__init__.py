"""What agents keep outside their windows: blocks, archives, and the consolidation of both."""
