"""The parts of screens, one module per region."""
