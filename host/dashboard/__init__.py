"""The dashboard: a small web page on loopback with the fleet, the running sweeps and the history. It changes nothing."""
