"""Conversations: turns, branches and drafts on disk, search, export and import. Draws nothing."""
