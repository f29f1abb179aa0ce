#!/usr/bin/env bash
# Prints the ClusterServingRuntimes of earlier versions of miniml that no InferenceService refers to any more, in the
# cluster of kubectl's current context. The newest one is never printed. To delete them, while no run deploys:
#   manifests/unused-runtimes.sh | xargs --no-run-if-empty kubectl delete
set -euo pipefail

each() { printf '{range .items[*]}%s{"\\n"}{end}' "$1"; }

used=$(kubectl get inferenceservices --all-namespaces --output jsonpath="$(each '{.spec.predictor.model.runtime}')")
kubectl get clusterservingruntimes --sort-by .metadata.creationTimestamp --output jsonpath="$(each '{.metadata.name}')" |
  { grep --extended-regexp '^miniml(-|$)' || true; } |
  head --lines -1 |
  { grep --invert-match --line-regexp --fixed-strings --regexp="$used" || true; } |
  sed 's|^|clusterservingruntime.serving.kserve.io/|'
