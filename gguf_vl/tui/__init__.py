"""The terminal UI: a Textual app over the history, the model in use and its engine."""
