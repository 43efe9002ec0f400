"""Decides what to recommend: candidates, blending, filters, diversity, reasons. No gRPC, no SQL."""
