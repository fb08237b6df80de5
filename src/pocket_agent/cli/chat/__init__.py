"""`pocket-agent chat`: a terminal client."""
