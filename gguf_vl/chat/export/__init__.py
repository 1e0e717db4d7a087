"""Chats taken out of the history: `markdown`, `html` and `json`, a module with an `export` each."""
