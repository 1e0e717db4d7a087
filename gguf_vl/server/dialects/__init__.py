"""One file per dialect: what its clients send becomes an `Asked`, and events become what they expect."""
