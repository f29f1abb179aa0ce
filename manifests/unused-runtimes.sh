#!/usr/bin/env bash
# Prints the ClusterServingRuntimes of earlier versions of miniml that no InferenceService names any more, of the cluster
# that kubectl's current context means. The newest one is never among them. To delete them, while no run deploys:
#   manifests/unused-runtimes.sh | xargs --no-run-if-empty kubectl delete
set -euo pipefail

each() { printf '{range .items[*]}%s{"\\n"}{end}' "$1"; }

used=$(kubectl get inferenceservices --all-namespaces --output jsonpath="$(each '{.spec.predictor.model.runtime}')")
kubectl get clusterservingruntimes --sort-by .metadata.creationTimestamp --output jsonpath="$(each '{.metadata.name}')" |
  { grep --extended-regexp '^miniml(-|$)' || true; } |
  head --lines -1 |
  { grep --invert-match --line-regexp --fixed-strings --regexp="$used" || true; } |
  sed 's|^|clusterservingruntime.serving.kserve.io/|'
