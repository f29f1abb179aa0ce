"""Makes smaller models of a fine-tuned one."""
