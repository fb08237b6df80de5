"""Listeners: HTTP, WebSocket connections, authentication, TLS, one handler per request."""
