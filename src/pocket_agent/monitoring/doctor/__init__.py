"""`pocket-agent doctor`: finds what is wrong with a server and its monitoring, and says how to mend it."""
