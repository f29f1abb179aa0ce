"""What the train step of a pipeline does: it trains in a child process and watches over it."""
