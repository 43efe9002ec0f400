"""The gRPC edge: settings, wiring, servicers, interceptors, health, worker processes, command line."""
