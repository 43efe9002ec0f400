"""The gRPC edge: settings, wiring, servicers, interceptors, health, processes, command line."""
