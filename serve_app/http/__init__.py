"""The HTTP border: routes, wire models, the error table, the page."""
