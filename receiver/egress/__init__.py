"""The one way out to addresses that users and results name: guarded, bounded, streamed."""
