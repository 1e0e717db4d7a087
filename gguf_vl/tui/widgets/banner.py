"""What a person should know of the model before they type, and can act on with one key. It never takes the focus."""

from __future__ import annotations

from textual.widgets import Static


class Banner(Static):
    """One or two lines over the chat; not there while there is nothing to say."""

    _said: str | None = None

    def say(self, markup: str) -> None:
        """Show this, or nothing."""
        if markup == self._said:  # everything on the screen would be laid out anew
            return
        self._said = markup
        self.display = bool(markup)
        self.update(markup)
