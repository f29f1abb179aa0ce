"""miniml: from a dataset and a model name to a served text classifier.

The work lives here and knows nothing of Kubeflow or KServe: plain paths and
values in, small results out. `components/` shows it to Kubeflow Pipelines,
`serving/` to KServe.
"""

__version__ = "0.1.0"
