"""Parts of the verb ``check``."""
