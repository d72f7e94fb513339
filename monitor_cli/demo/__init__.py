"""The demonstration: one outage from a status page to customers, played with the real commands on this machine."""
