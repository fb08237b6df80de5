"""What the claims of docs/performance.md rest on: each benchmark compares within one run on one machine."""
