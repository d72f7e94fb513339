"""What was, as reports tell it: a time window, the sweep through the history, its figures, and a page to open."""
