"""Runs a part of a stage that needs much memory in a child process, and starts it again if it dies."""
