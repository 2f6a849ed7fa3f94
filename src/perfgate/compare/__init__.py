"""How do two stored runs differ? Their cases side by side: another commit, other software, or another machine."""
