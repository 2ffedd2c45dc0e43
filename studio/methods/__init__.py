"""What is trainable: one file per method."""
