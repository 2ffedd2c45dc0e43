"""A studio on another machine."""
