"""The verbs of the ledger with their SQL, written once for every engine."""
