"""monitor-cli: tells a voice platform's customers when the servers carrying their numbers are in trouble."""

__version__ = "0.1.0"
