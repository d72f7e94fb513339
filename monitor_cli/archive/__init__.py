"""What is older than the policy: out of the database into files, and back."""
