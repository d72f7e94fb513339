"""incident-sync: read the sources, wrap what they say, and write what differs, in one transaction."""
