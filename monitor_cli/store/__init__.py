"""All SQL, by subject. A function takes the Connection first and never commits: its caller owns the transaction."""
