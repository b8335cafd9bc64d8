"""The application: one search over text and pictures. Knows no Ray."""
