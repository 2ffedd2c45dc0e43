"""Parts of the verb ``publish``."""
