//! Apply: by the client, by the server; pruning, differences, kustomizations.

use super::step::{Step, fails, ok};

pub(crate) const STEPS: &[Step] = &[
    ok("kubectl create ns other", &["namespace/other created"]),
    ok("kubectl apply -f cm.yaml", &["configmap/a1 created"]),
    ok("kubectl apply -f cm.yaml", &["configmap/a1 unchanged"]),
    ok("kubectl diff -f cm.yaml", &[]),
    fails("sed 's/k: v/k: w/' cm.yaml | kubectl diff -f -", 1, &["-* k: v", "+ k: w"]),
    ok("sed 's/k: v/k: w/' cm.yaml | kubectl apply --dry-run=client -f -", &["configmap/a1 configured (dry run)"]),
    ok("sed 's/k: v/k: w/' cm.yaml | kubectl apply --dry-run=server -f -", &["configmap/a1 configured (server dry run)"]),
    ok("kubectl get cm a1 -o jsonpath='{.data.k}'", &["v"]),
    ok("sed 's/k: v/k: w/' cm.yaml | kubectl apply -f -", &["configmap/a1 configured"]),
    ok("kubectl get cm a1 -o jsonpath='{.data.k}'", &["w"]),
    ok("kubectl apply view-last-applied cm a1", &["data:", "k: w", "name: a1"]),
    ok("kubectl apply set-last-applied -f cm.yaml", &["configmap/a1 configured"]),
    ok("kubectl apply view-last-applied cm a1", &["k: v"]),
    ok("SED='s/k: v/k: x/' kubectl apply edit-last-applied cm a1", &["configmap/a1 edited"]),
    ok("kubectl apply view-last-applied cm a1", &["k: x"]),
    // The fields it would take are the other apply's.
    fails(
        "kubectl apply --server-side -f cm.yaml --field-manager=two",
        1,
        &["error: Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.k"],
    ),
    ok("kubectl apply --server-side -f cm.yaml --field-manager=two --force-conflicts", &["configmap/a1 serverside-applied"]),
    // Newer ones give what they applied by themselves to the server's apply.
    ok("kubectl get cm a1 -o jsonpath='{.metadata.managedFields[*].manager}'", &["two"]).since(26),
    ok(
        "kubectl get cm a1 -o jsonpath='{range .metadata.managedFields[*]}{.manager} {.operation}{\"\\n\"}{end}'",
        &["two Apply", "kubectl-client-side-apply Update"],
    )
    .until(25),
    ok("kubectl get cm a1 -o jsonpath='{.data.k}'", &["v"]),
    ok("sed '/^data/d' cm.yaml | kubectl apply --server-side -f - --field-manager=two", &["configmap/a1 serverside-applied"]),
    // What it alone had is gone; what the other has too stays.
    ok("kubectl get cm a1 -o jsonpath='{.metadata.name}{.data}'", &["a1"]).since(26),
    ok("kubectl get cm a1 -o jsonpath='{.data}'", &["{\"multi\":\"one\\ntwo\\n\"}"]).until(25),
    fails("kubectl diff --server-side --force-conflicts -f cm.yaml", 1, &["+ k: v"]),
    // Pruning: what was applied with the label and is no longer said goes, what was made otherwise stays.
    ok("kubectl create cm kept && kubectl label cm kept app=a", &["configmap/kept created", "configmap/kept labeled"]),
    ok("sed 's/a1/b1/' cm.yaml > b.yaml; cat cm.yaml <(echo ---) b.yaml > both.yaml", &[]),
    ok("kubectl apply --prune -l app=a -f both.yaml", &["configmap/a1 configured", "configmap/b1 created", "- configmap/kept pruned"]).since(26),
    ok("kubectl apply --prune -l app=a -f cm.yaml", &["configmap/a1 unchanged", "configmap/b1 pruned", "- configmap/kept pruned"]).since(26),
    // Older ones ask for kinds of 2019 unless they are told which.
    ok("kubectl apply --prune -l app=a --prune-whitelist=core/v1/ConfigMap -f both.yaml", &["configmap/a1 configured", "configmap/b1 created", "- configmap/kept pruned"]).until(25),
    ok("kubectl apply --prune -l app=a --prune-whitelist=core/v1/ConfigMap -f cm.yaml", &["configmap/a1 unchanged", "configmap/b1 pruned", "- configmap/kept pruned"]).until(25),
    fails("kubectl get cm b1", 1, &["Error from server (NotFound): configmaps \"b1\" not found"]),
    ok(
        "KUBECTL_APPLYSET=true kubectl apply -n other --prune --applyset=set -f both.yaml",
        &["configmap/a1 created", "configmap/b1 created"],
    )
    .since(27),
    ok("KUBECTL_APPLYSET=true kubectl apply -n other --prune --applyset=set -f cm.yaml", &["configmap/a1 unchanged", "configmap/b1 pruned"])
        .since(27),
    ok("kubectl get secret set -n other -o jsonpath='{.metadata.annotations}'", &["*applyset.kubernetes.io/contains-group-kinds*ConfigMap*"])
        .since(27),
    ok("kubectl apply -k kust", &["configmap/pre-gen-* created"]),
    ok("kubectl apply -k kust", &["configmap/pre-gen-* unchanged"]),
    ok("kubectl diff -k kust 2> words", &[]),
    ok("kubectl get cm -l from=kust -o jsonpath='{.items[*].data}'", &["{\"a\":\"b\"}"]).since(27),
    ok("kubectl delete -k kust", &["configmap \"pre-gen-*\" deleted*"]),
    ok("kubectl apply -f deploy.yaml", &["deployment.apps/d1 created"]),
    ok("kubectl apply -f deploy.yaml", &["deployment.apps/d1 unchanged"]),
    ok("sed 's/nginx:1/nginx:2/; s/replicas: 2/replicas: 3/' deploy.yaml | kubectl apply -f -", &["deployment.apps/d1 configured"]),
    ok("kubectl get deploy d1 -o jsonpath='{.spec.replicas} {.spec.template.spec.containers[*].image} {.metadata.generation}'", &["3 nginx:2 2"]),
    // A member of a list that a key finds goes alone.
    ok("sed '/env:/d' deploy.yaml | kubectl apply -f -", &["deployment.apps/d1 configured"]),
    ok(
        "kubectl get deploy d1 -o jsonpath='{.spec.template.spec.containers[0].env}{.spec.template.spec.containers[0].ports[0].name}'",
        &["http"],
    ),
    ok("kubectl scale deploy d1 --replicas=7", &["deployment.apps/d1 scaled"]),
    fails(
        "kubectl apply --server-side -f deploy.yaml --field-manager=two",
        1,
        &["*conflict*.spec.replicas"],
    ),
    ok("sed '/replicas/d' deploy.yaml | kubectl apply --server-side --field-manager=two --force-conflicts -f -", &["deployment.apps/d1 serverside-applied"]),
    ok("kubectl get deploy d1 -o jsonpath='{.spec.replicas}'", &["7"]),
    fails("sed 's/image:/imag:/' deploy.yaml | kubectl apply -f -", 1, &["*unknown field \"*imag\"*"]),
    ok("sed 's/image:/imag:/; s/d1/d2/g' deploy.yaml | kubectl apply --dry-run=client --validate=false -f -", &["deployment.apps/d2 created (dry run)"]),
    fails(
        "sed 's/app: d1/app: other/' deploy.yaml | kubectl apply -f -",
        1,
        &["The Deployment \"d1\" is invalid: *spec.selector: Invalid value: *: field is immutable"],
    ),
    fails(
        "sed 's/replicas: 2/replicas: -1/' deploy.yaml | kubectl apply -f -",
        1,
        &["The Deployment \"d1\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    ),
    fails(
        "kubectl apply -f cm.yaml -n nowhere",
        1,
        &["Error from server (NotFound): error when creating \"cm.yaml\": namespaces \"nowhere\" not found"],
    ),
];
