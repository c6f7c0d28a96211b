"""What a running server consists of, but its doors."""
