"""Windows compacted: planned, summarised, recorded."""
