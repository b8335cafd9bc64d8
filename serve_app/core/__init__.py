"""Pure functions and small classes: ranking, records, ids, batching, image geometry. No I/O."""
