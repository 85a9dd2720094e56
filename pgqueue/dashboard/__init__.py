"""Draws a Stats: one page for any width, and a live screen that redraws it. No SQL, and no arithmetic but for layout.

Names, notes and errors were written by whoever may enqueue, so every one of them passes `showable` on its way to the
terminal, and none is ever taken for rich's markup.
"""

from pgqueue.dashboard.page import page
from pgqueue.dashboard.screen import live
from pgqueue.dashboard.words import showable

__all__ = ["live", "page", "showable"]
