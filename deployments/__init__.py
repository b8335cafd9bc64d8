"""Ray Serve deployments: thin classes that hold an object of serve_app and forward to it."""
