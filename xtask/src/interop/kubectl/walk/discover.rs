//! What there is: versions, resources, explanations.

use super::step::{Step, fails, ok};

pub(crate) const STEPS: &[Step] = &[
    ok(
        "kubectl version -o yaml",
        &["clientVersion:*", "serverVersion:", "gitVersion: v1.36.2+sextant*", "minor: \"36\""],
    ),
    ok(
        "kubectl api-versions",
        &["apps/v1", "batch/v1", "coordination.k8s.io/v1", "rbac.authorization.k8s.io/v1", "v1"],
    ),
    ok(
        "kubectl api-resources -o wide",
        &[
            "NAME SHORTNAMES API*",
            "configmaps cm v1 true ConfigMap *create*watch*",
            "nodes no v1 false Node *",
        ],
    ),
    ok(
        "kubectl api-resources --api-group=apps -o name",
        &[
            "controllerrevisions.apps",
            "daemonsets.apps",
            "deployments.apps",
            "replicasets.apps",
            "statefulsets.apps",
            "- pods",
        ],
    ),
    ok(
        "kubectl api-resources --namespaced=false -o name",
        &["namespaces", "nodes", "persistentvolumes", "- pods"],
    ),
    ok("kubectl get --raw /healthz", &["ok"]),
    ok("kubectl get --raw '/readyz?verbose'", &["[+]ping ok", "readyz check passed"]),
    fails(
        "kubectl get --raw /nope",
        1,
        &["Error from server (NotFound): the server could not find the requested resource"],
    ),
    fails("kubectl get nope", 1, &["error: the server doesn't have a resource type \"nope\""]),
    ok("kubectl explain pods", &["KIND: Pod", "VERSION: v1", "spec <*>*"]),
    ok(
        "kubectl explain deployments.spec.strategy --recursive",
        &["KIND: Deployment", "rollingUpdate <*>", "maxSurge <*>", "maxUnavailable <*>", "type <string>"],
    ),
    ok("kubectl explain hpa --api-version=autoscaling/v1", &["VERSION: *v1", "spec <*>*"]),
    ok("kubectl explain svc.spec.ports.nodePort", &["FIELD: nodePort <integer>"]),
    fails("kubectl explain pods.spec.nope", 1, &["error: field \"nope\" does not exist"]),
    ok("kubectl get ns", &["NAME STATUS AGE", "default Active *", "kube-system Active *"]),
    ok("kubectl get svc kubernetes -o jsonpath='{.spec.ports[0].port}'", &["443"]),
    ok("kubectl cluster-info", &["*Kubernetes*https://127.0.0.1:*"]),
];
