"""The ledger in one SQLite file: one writer with group commit, read-only readers, SQL as verbs."""
