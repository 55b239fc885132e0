"""Records on disk and behind URLs: how they are written, read back without trust, and brought elsewhere."""
