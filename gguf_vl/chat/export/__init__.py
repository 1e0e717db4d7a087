"""Chats taken out of the history: `markdown`, `html` and `json`, each with an `export`; `files` writes them."""
