#!/usr/bin/env bash
# Copies the credentials of KFP's own store, from the secret that KFP installed, into a secret by which KServe fetches
# models and the steps of a run read s3:// addresses:
#   manifests/s3-secret.sh [NAMESPACE...]      the namespaces with models and with steps; by default models kubeflow
#
# It is a script and not a Job in the cluster, because a Job needs an account that may create secrets, which outlives
# it. The script has the rights of the user; the credentials go through a pipe, and into no file or argument.
set -euo pipefail

STORE=seaweedfs.kubeflow:9000

# NAMESPACE
as_kserve_reads_it() {
  cat <<TEMPLATE
apiVersion: v1
kind: Secret
metadata:
  name: miniml-s3
  namespace: $1
  labels:
    app.kubernetes.io/managed-by: miniml
  annotations:
    serving.kserve.io/s3-endpoint: $STORE
    serving.kserve.io/s3-usehttps: "0"
    serving.kserve.io/s3-verifyssl: "0"
    serving.kserve.io/s3-region: us-east-1
    serving.kserve.io/s3-usevirtualbucket: "false"
    serving.kserve.io/s3-useanoncredential: "false"
data:
  AWS_ACCESS_KEY_ID: {{.data.accesskey}}
  AWS_SECRET_ACCESS_KEY: {{.data.secretkey}}
  AWS_ENDPOINT_URL: $(printf %s "http://$STORE" | base64) # for the steps, whose sources may be at s3://
TEMPLATE
}

if (($# == 0)); then set -- models kubeflow; fi
for namespace in "$@"; do
  # Server-side, because a client-side apply would also write the credentials into an annotation.
  kubectl get secret mlpipeline-minio-artifact --namespace kubeflow \
    --output "go-template=$(as_kserve_reads_it "$namespace")" |
    kubectl apply --server-side --force-conflicts --field-manager=miniml-install --filename -
done
