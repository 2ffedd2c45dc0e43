"""Parts of the verb ``export``, and the proof that an export loads."""
