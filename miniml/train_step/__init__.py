"""Runs the train step of a pipeline: trains in a child process, and retries it if it dies."""
