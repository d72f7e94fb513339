"""What writes files of this project from its code: `make docs`."""
