"""What every room stands on: files, folders and progress. No torch, and nothing of the studio but errors and domain."""
