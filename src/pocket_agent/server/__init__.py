"""Clients come in here: HTTP, WebSocket connections, authentication, TLS, one handler per request."""
