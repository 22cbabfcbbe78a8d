"""Everything that touches the world: the log, the worker, the models, the wire."""
