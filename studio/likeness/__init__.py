"""How much does this picture show this subject? One engine per file; ``base`` has the scale."""
