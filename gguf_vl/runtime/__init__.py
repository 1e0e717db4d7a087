"""From a name to a running engine."""
