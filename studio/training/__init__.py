"""Parts of the verb ``train``."""
