"""The ledger in PostgreSQL: one connection that writes in groups, a few that read, the same verbs as in a file."""
