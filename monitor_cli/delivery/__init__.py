"""callback-run: plan, claim, render, send, settle (docs/delivery.md)."""
