"""Webhooks: what happens to an owner's jobs, told to addresses of theirs, signed as Standard Webhooks asks."""
