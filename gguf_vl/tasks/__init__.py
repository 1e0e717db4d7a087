"""Tasks as data, what comes of them as data, and many of them at once."""
