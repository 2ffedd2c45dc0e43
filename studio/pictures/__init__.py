"""Parts of the verb ``generate``."""
