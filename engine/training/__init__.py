"""Making models: checks of what is asked for, fits, the automatic choice and its report."""
