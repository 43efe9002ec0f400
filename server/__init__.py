"""The gRPC edge: settings, wiring, servicers, health, processes, command line."""
