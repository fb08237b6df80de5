"""What the server shows of itself: its log, its health, its figures."""
