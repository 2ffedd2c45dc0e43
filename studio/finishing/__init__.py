"""Parts of the verb ``finish``."""
