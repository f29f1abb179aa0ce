#!/usr/bin/env bash
# Creates a cluster on this machine that runs our pipelines and serves their models (`make cluster`), or deletes it:
#   manifests/install.sh up|down|render|tag
# render only prints our own objects, and tag writes the tag of our images into base/runtime.yaml. After a failure, run
# it again: it keeps what is already installed.
#
# PYTHON is an interpreter that can import miniml; MINIML_REGISTRY and MINIML_IMAGE_TAG change the names of the images.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CLUSTER=miniml # the name in kind-config.yaml
CONTEXT="kind-$CLUSTER"
PYTHON="${PYTHON:-python3}"

# The versions of KServe and metrics-server are in their kustomization.yaml, and that of Kubernetes in kind-config.yaml.
KFP_VERSION=2.17.0
CERT_MANAGER_VERSION=1.17.0
OLDEST_DOCKER=24.0
OLDEST_KIND=0.32
OLDEST_KUBECTL=1.32

KFP="https://github.com/kubeflow/pipelines/manifests/kustomize"
KFP_REF="ref=$KFP_VERSION&timeout=300s"
CERT_MANAGER="https://github.com/cert-manager/cert-manager/releases/download/v$CERT_MANAGER_VERSION/cert-manager.yaml"

# Seconds. A Deployment is ready only after its images were pulled, perhaps over a slow network.
WAIT_FOR_CRD=120
WAIT_FOR_DEPLOYMENT=1200

main() {
  case "${1:-}" in
    up) up ;;
    down) down ;;
    render) render ;;
    tag) write_tag ;;
    *) fail "'${1:-}' is no command" "manifests/install.sh up|down|render|tag" ;;
  esac
}

up() {
  check_tools
  create_cluster
  trap 'explain_failure $?' EXIT
  install_certificates
  install_metrics
  install_kubeflow_pipelines
  install_kserve
  load_images
  install_miniml
  trap - EXIT
  print_addresses
}

down() {
  require_tool kind "$KIND_REMEDY"
  kind delete cluster --name "$CLUSTER"
}

say() { printf '\n[%s] %s\n' "$(date +%H:%M:%S)" "$*"; }

fail() {
  printf 'error: %s. %s\n' "$1" "$2" >&2
  exit 1
}

KIND_REMEDY="Install kind $OLDEST_KIND or newer: https://kind.sigs.k8s.io/docs/user/quick-start/#installation"
KUBECTL_REMEDY="Install kubectl $OLDEST_KUBECTL or newer: https://kubernetes.io/docs/tasks/tools/"
DOCKER_REMEDY="Install and start Docker $OLDEST_DOCKER or newer: https://docs.docker.com/engine/install/"
GIT_REMEDY="Install git: kubectl fetches Kubeflow Pipelines' manifests with it"

check_tools() {
  say "looking for docker, kind, kubectl, git"
  require_tool git "$GIT_REMEDY"
  require_tool docker "$DOCKER_REMEDY"
  require_tool kind "$KIND_REMEDY"
  require_tool kubectl "$KUBECTL_REMEDY"
  docker info >/dev/null 2>&1 || fail "the Docker engine does not answer" "Start it: sudo systemctl start docker"
  require_version docker "$(docker version --format '{{.Server.Version}}')" $OLDEST_DOCKER "$DOCKER_REMEDY"
  require_version kind "$(kind version)" $OLDEST_KIND "$KIND_REMEDY"
  require_version kubectl "$(kubectl version --client)" $OLDEST_KUBECTL "$KUBECTL_REMEDY"
  warn_if_memory_is_low
  "$PYTHON" -c 'import miniml.images' || fail "$PYTHON cannot import miniml" "Set it up: make setup"
}

# Only a warning: the pods request less memory than this, and a training may be small.
warn_if_memory_is_low() {
  local memory
  memory=$(docker info --format '{{.MemTotal}}')
  if [[ "$memory" =~ ^[0-9]+$ ]] && ((memory < 7500000000)); then
    echo "  warning: Docker has $((memory / 1000000000)) GB; Kubeflow Pipelines, KServe and a training want 8"
  fi
}

require_tool() {
  command -v "$1" >/dev/null || fail "$1 is not installed" "$2"
}

# NAME, text that contains its version, minimum version, remedy
require_version() {
  local found
  found=$(grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' <<<"$2" | head -n 1) || true
  if [[ -z "$found" || "$(printf '%s\n%s\n' "$3" "$found" | sort --version-sort | head -n 1)" != "$3" ]]; then
    fail "$1 is ${found:-of an unknown version}, older than $3" "$4"
  fi
  printf '  %s %s\n' "$1" "$found"
}

cluster_kubectl() { kubectl --context "$CONTEXT" "$@"; }

create_cluster() {
  if kind get clusters 2>/dev/null | grep --quiet --line-regexp "$CLUSTER"; then
    say "cluster $CLUSTER is there"
    kind export kubeconfig --name "$CLUSTER"
  else
    say "creating cluster $CLUSTER"
    kind create cluster --config kind-config.yaml --wait 180s
  fi
}

# Server-side, because some CRDs are too large for the annotation of a client-side apply. Forced, because a controller
# may have become the manager of a field. Retried, because a webhook that was just installed may not answer yet.
apply() {
  local try
  for try in 1 2 3 4 5 6; do
    if cluster_kubectl apply --server-side --force-conflicts --field-manager=miniml-install "$@" >/dev/null; then
      return
    fi
    echo "  not all of it could be applied (try $try of 6); again in 10 s"
    sleep 10
  done
  fail "could not apply $*" "The lines above say why"
}

wait_for_crds() {
  local crd
  for crd in "$@"; do
    cluster_kubectl wait "crd/$crd" --for=condition=established --timeout="${WAIT_FOR_CRD}s" >/dev/null
  done
}

# Waits for the Deployments of a NAMESPACE [with a LABEL], and prints the name of each one that is ready.
wait_for_deployments() {
  local namespace="$1" label="${2:-}" deployment
  for deployment in $(cluster_kubectl get deployments --namespace "$namespace" --selector "$label" --output name); do
    printf '  %s/%s ... ' "$namespace" "${deployment#deployment.apps/}"
    cluster_kubectl rollout status "$deployment" --namespace "$namespace" \
      --timeout="${WAIT_FOR_DEPLOYMENT}s" >/dev/null
    echo ready
  done
}

# Applies standard input. It is copied to a file, because it can be read only once, and apply may retry.
apply_input() {
  local objects
  objects=$(mktemp)
  cat >"$objects"
  apply --filename "$objects"
  rm "$objects"
}

create_namespace() {
  cluster_kubectl create namespace "$1" --dry-run=client --output yaml | apply_input
}

install_certificates() {
  say "cert-manager $CERT_MANAGER_VERSION: certificates for KServe's webhooks"
  apply --filename "$CERT_MANAGER"
  wait_for_crds certificates.cert-manager.io issuers.cert-manager.io
  wait_for_deployments cert-manager
}

install_metrics() {
  say "metrics-server: what autoscaling reads"
  apply --kustomize manifests/metrics-server
}

install_kubeflow_pipelines() {
  say "Kubeflow Pipelines $KFP_VERSION (the longest step: its images are large)"
  apply --kustomize "$KFP/cluster-scoped-resources?$KFP_REF"
  wait_for_crds applications.app.k8s.io
  apply --kustomize "$KFP/env/platform-agnostic?$KFP_REF"
  # Only its own Deployments: somebody's model in the same namespace may be broken.
  wait_for_deployments kubeflow application-crd-id=kubeflow-pipelines
}

install_kserve() {
  say "KServe $(sed -n 's|.*/kserve/releases/download/v\(.*\)/.*|\1|p' manifests/kserve/kustomization.yaml), Standard mode"
  create_namespace kserve
  apply --kustomize manifests/kserve
  wait_for_crds inferenceservices.serving.kserve.io clusterservingruntimes.serving.kserve.io
  wait_for_deployments kserve
}

# Prints the names of our images, one a line; the last one is the predictor's.
image_names() {
  "$PYTHON" -c 'from miniml.images import SERVING, STAGES, image; print(*map(image, (*STAGES, SERVING)), sep="\n")'
}

load_images() {
  say "building our images and loading them into the cluster"
  make images
  local name
  for name in $(image_names); do
    kind load docker-image "$name" --name "$CLUSTER"
  done
}

runtime_name() { "$PYTHON" -c 'from miniml.resource_names import RUNTIME; print(RUNTIME)'; }

# IMAGE. Prints standard input with this image of the predictor, and with the runtime's name, which ends in the tag.
with_image() {
  sed -E -e "s|image: (.*/)?miniml-serving:[^ ]*|image: $1|" \
    -e "/^kind: ClusterServingRuntime/,/^spec:/ s|^  name: .*|  name: $(runtime_name)|"
}

# The overlay has the image of this version; environment variables may select another one.
render() { kubectl kustomize manifests/overlays/kind | with_image "$(image_names | tail -n 1)"; }

write_tag() {
  local runtime=manifests/base/runtime.yaml image content
  image=$(image_names | tail -n 1)
  content=$(with_image "${image##*/}" <$runtime) # without the registry, which the overlays add
  printf '%s\n' "$content" >$runtime
}

install_miniml() {
  say "miniml: accounts, rights, runtime, policies, ports"
  render | apply_input
  # Left by versions before each service had its own budget; a pod with two budgets cannot be evicted.
  cluster_kubectl delete poddisruptionbudget miniml-predictor --namespace kubeflow --ignore-not-found
  kubectl config use-context "$CONTEXT" >/dev/null
  manifests/s3-secret.sh >/dev/null
  cluster_kubectl rollout status deployment/miniml-gateway --namespace kubeflow --timeout="${WAIT_FOR_DEPLOYMENT}s"
}

print_addresses() {
  cat <<'ADDRESSES'

The cluster is ready, and your kubectl's current context is kind-miniml.
  UI          http://localhost:8880      export KFP_HOST=http://localhost:8880
  API         http://localhost:8881      (the UI's address answers for it, too)
  inference   http://localhost:8882/<namespace>/<service>/predict
ADDRESSES
}

explain_failure() {
  if [[ "$1" == 0 ]]; then return; fi
  set +e # a command that fails here must not hide the rest
  {
    echo
    echo "The installation stopped. These pods are not ready:"
    cluster_kubectl get pods --all-namespaces --no-headers |
      awk '{ split($3, ready, "/") } $4 != "Completed" && ($4 != "Running" || ready[1] != ready[2])' | head -n 20
    echo "The last warnings of the cluster:"
    cluster_kubectl get events --all-namespaces --field-selector type=Warning --sort-by=.lastTimestamp \
      --no-headers | tail -n 12
    print_last_logs
    echo "Look further:  kubectl --context $CONTEXT describe pod NAME -n NAMESPACE"
    echo "Disk and memory:  docker system df; docker stats --no-stream   (KFP and KServe want 8 GiB)"
    echo "Then again:  make cluster   (or from nothing: make cluster-delete cluster)"
  } >&2
}

# Prints the last log lines of up to three pods whose containers crash again and again.
print_last_logs() {
  local namespace pod
  cluster_kubectl get pods --all-namespaces --no-headers | awk '/CrashLoopBackOff|Error/ { print $1, $2 }' |
    head -n 3 | while read -r namespace pod; do
    echo "The last log lines of $namespace/$pod:"
    cluster_kubectl logs "$pod" --namespace "$namespace" --all-containers --tail 10 2>&1 | sed 's/^/  /'
  done
}

main "$@"
