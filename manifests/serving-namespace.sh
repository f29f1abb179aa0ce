#!/usr/bin/env bash
# Prepares a namespace, in addition to "models", for serving models, or updates it: account, rights, policies, Pod
# Security, and the secret with the credentials of KFP's own store:
#   manifests/serving-namespace.sh NAMESPACE
#
# Pods that already run in the namespace must satisfy Pod Security `restricted`. With a store of your own, replace the
# secret miniml-s3 by one as in overlays/production.
set -euo pipefail

MANIFESTS="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
NAMESPACE="${1:-}"

if [[ ! "$NAMESPACE" =~ ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$ ]]; then
  echo "error: '$NAMESPACE' names no namespace. manifests/serving-namespace.sh NAMESPACE takes one, of lower-case" \
    "letters, digits and hyphens." >&2
  exit 1
fi

if [[ "$NAMESPACE" == kubeflow ]]; then
  echo "error: models are not served in kubeflow, where Pod Security would refuse the pods of Kubeflow Pipelines. Name" \
    "another namespace." >&2
  exit 1
fi

folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cp -r "$MANIFESTS/base/serving" "$folder"
cat >"$folder/kustomization.yaml" <<KUSTOMIZATION
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: $NAMESPACE
resources: [serving]
KUSTOMIZATION

kubectl apply --server-side --force-conflicts --field-manager=miniml-install --kustomize "$folder"
"$MANIFESTS/s3-secret.sh" "$NAMESPACE"
