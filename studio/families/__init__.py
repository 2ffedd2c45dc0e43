"""One file per model family; ``registry`` finds them by name."""
