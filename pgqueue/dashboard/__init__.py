"""Draws a Stats: one page for any width, and a live screen that redraws it. No SQL, and no arithmetic but for layout.

Anyone who may enqueue writes names, notes and errors. So every one of them passes `showable` on its way to the terminal,
and rich never takes any for its markup.
"""

from pgqueue.dashboard.page import page
from pgqueue.dashboard.screen import live
from pgqueue.dashboard.words import showable

__all__ = ["live", "page", "showable"]
