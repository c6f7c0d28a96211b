"""RunningHub: its bytes (`wire`, pure), its errors, and the client that speaks HTTP to it."""
