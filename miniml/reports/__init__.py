"""What the reports share: plots, templates, Markdown."""
