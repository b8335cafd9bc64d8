"""One third party per file, dressed as our ports."""
