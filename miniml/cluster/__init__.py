"""What miniml asks of Kubernetes and KServe."""
