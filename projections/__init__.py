"""Pure folds of facts into views, and the read tables kept beside the log."""
