"""`pocket-agent loadtest`: put a load on a server and judge how it took it."""
