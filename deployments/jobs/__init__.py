"""Bulk work on Ray Data: the same services and models as the graph, on many items at a time, as jobs that may be killed."""
