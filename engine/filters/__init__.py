"""AIP-160 filters: text to syntax tree to jsonpath predicate."""
