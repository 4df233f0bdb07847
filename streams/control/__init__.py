"""The control plane: watches what a pipeline publishes, decides, delivers alerts, and serves the page."""
