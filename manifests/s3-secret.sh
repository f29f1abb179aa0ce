#!/usr/bin/env bash
# Makes the secret with which KServe fetches models from KFP's own store, out of the secret that KFP installed:
#   manifests/s3-secret.sh [NAMESPACE]      the namespace that serves the models; kubeflow unless said otherwise
#
# A script, and not a Job of the cluster: a Job needs an account that may create secrets, which outlives it. This has
# the rights of whoever installs; the credentials go from one kubectl to the next, and into no file or argument.
set -euo pipefail

SERVING_NAMESPACE="${1:-kubeflow}"

as_kserve_reads_it() {
  cat <<TEMPLATE
apiVersion: v1
kind: Secret
metadata:
  name: miniml-s3
  namespace: $SERVING_NAMESPACE
  labels:
    app.kubernetes.io/managed-by: miniml
  annotations:
    serving.kserve.io/s3-endpoint: seaweedfs.kubeflow:9000
    serving.kserve.io/s3-usehttps: "0"
    serving.kserve.io/s3-verifyssl: "0"
    serving.kserve.io/s3-region: us-east-1
    serving.kserve.io/s3-usevirtualbucket: "false"
    serving.kserve.io/s3-useanoncredential: "false"
data:
  AWS_ACCESS_KEY_ID: {{.data.accesskey}}
  AWS_SECRET_ACCESS_KEY: {{.data.secretkey}}
  AWS_ENDPOINT_URL: $(printf http://seaweedfs.kubeflow:9000 | base64) # for the steps, whose sources may be at s3://
TEMPLATE
}

# Server-side: a plain apply would write the credentials into an annotation as well.
kubectl get secret mlpipeline-minio-artifact --namespace kubeflow --output "go-template=$(as_kserve_reads_it)" |
  kubectl apply --server-side --force-conflicts --field-manager=miniml-install --filename -
