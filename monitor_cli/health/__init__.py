"""How everything is now: the picture that `status` shows, and the findings that `check` judges."""
