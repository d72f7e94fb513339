"""The long fault run (`make fault`): workers and the database die at random, and nothing may be lost or stale."""
