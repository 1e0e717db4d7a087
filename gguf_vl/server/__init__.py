"""HTTP: one file per dialect, each thin: a client's request becomes an `Asked`, and events become what it expects."""
