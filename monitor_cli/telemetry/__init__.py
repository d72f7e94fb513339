"""How a run went, for others' tools: a textfile for Prometheus, and a ping of a URL."""
