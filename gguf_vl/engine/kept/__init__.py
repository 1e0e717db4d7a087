"""What is kept so that nothing is computed twice: sequences in the cache and on disk, embeddings of pictures."""
