"""`pocket-agent monitoring`: write the monitoring stack, check it, run it."""
