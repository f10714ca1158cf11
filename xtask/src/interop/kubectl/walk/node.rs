//! Nodes and certificates: cordon, taint, drain, approve.

use super::step::{Step, fails, ok};

pub(crate) const STEPS: &[Step] = &[
    ok("printf 'apiVersion: v1\\nkind: Node\\nmetadata: {name: n1}\\n' | kubectl create -f -", &["node/n1 created"]),
    ok("kubectl get node n1", &["NAME STATUS ROLES AGE VERSION", "n1 * <none> *"]),
    ok("kubectl cordon n1", &["node/n1 cordoned"]),
    ok("kubectl cordon n1", &["node/n1 already cordoned"]),
    ok("kubectl get node n1", &["n1 *SchedulingDisabled <none> *"]),
    ok("kubectl uncordon n1", &["node/n1 uncordoned"]),
    ok("kubectl taint node n1 a=b:NoSchedule", &["node/n1 tainted"]),
    fails("kubectl taint node n1 a=c:NoSchedule", 1, &["error: node n1 already has a taint(s) with same effect(s) and --overwrite is false"]).until(20),
    fails("kubectl taint node n1 a=c:NoSchedule", 1, &["error: *already has *a*taint*"]).since(21),
    ok("kubectl get node n1 -o jsonpath='{.spec.taints[?(@.key==\"a\")]}'", &["{\"effect\":\"NoSchedule\",\"key\":\"a\",\"value\":\"b\"}"]),
    ok("kubectl taint node n1 a-", &["node/n1 untainted"]),
    ok("kubectl label node n1 node-role.kubernetes.io/worker=", &["node/n1 labeled"]),
    ok("kubectl get node n1", &["n1 * worker *"]),
    ok("for p in a b; do kubectl run $p --image=x --labels=app=$p --overrides='{\"spec\":{\"nodeName\":\"n1\"}}'; done", &["pod/a created", "pod/b created"]),
    fails("kubectl drain n1", 1, &["*annot delete *Pods *: default/a, default/b*"]),
    ok("kubectl drain n1 --force --dry-run=server", &["node/n1 *drained (server dry run)"]).since(21),
    ok("kubectl drain n1 --force --disable-eviction --grace-period=0 --timeout=240s", &["pod/*", "node/n1 *ed"]).until(20),
    ok("kubectl drain n1 --force --disable-eviction --grace-period=0 --timeout=240s", &["pod/*", "node/n1 drained"]).since(21),
    ok("kubectl get pods -o name", &[]).until(20),
    ok("kubectl get pods", &["No resources found in default namespace."]).since(21),
    // An eviction deletes what no budget holds, and is refused where one does.
    ok("kubectl run c --image=x --labels=app=c --overrides='{\"spec\":{\"nodeName\":\"n1\"}}' && kubectl create pdb c --selector=app=c --min-available=1", &["pod/c created", "poddisruptionbudget.policy/c created"]).since(22),
    ok("kubectl patch pod c --subresource=status -p '{\"status\":{\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}'", &["pod/c patched"]).since(24),
    fails("echo '{\"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",\"metadata\":{\"name\":\"c\"}}' | kubectl create --raw /api/v1/namespaces/default/pods/c/eviction -f -", 1, &["*Cannot evict pod as it would violate the pod's disruption budget.*"]).since(24),
    ok("kubectl patch node n1 --subresource=status -p '{\"status\":{\"capacity\":{\"cpu\":\"4\"},\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}],\"nodeInfo\":{\"kubeletVersion\":\"v1\"}}}' && kubectl get node n1", &["n1 Ready,SchedulingDisabled worker * v1"]).since(24),
    ok("kubectl describe node n1", &["Name: n1", "Roles: worker", "Unschedulable: true"]),
    ok("kubectl delete node n1", &["node \"n1\" deleted"]),
    // Certificates.
    ok("kubectl create -f csr.yaml", &["certificatesigningrequest.certificates.k8s.io/csr1 created"]),
    ok("kubectl get csr csr1", &["NAME AGE SIGNERNAME REQUESTOR*CONDITION", "csr1 * kubernetes.io/kube-apiserver-client * Pending"]),
    ok("kubectl certificate approve csr1", &["certificatesigningrequest.certificates.k8s.io/csr1 approved"]),
    ok("kubectl get csr csr1", &["csr1 * Approved*"]),
    ok("sed 's/csr1/csr2/' csr.yaml | kubectl create -f - && kubectl certificate deny csr2", &["*/csr2 created", "*/csr2 denied"]),
    ok("kubectl get csr csr2", &["csr2 * Denied"]),
    fails("sed 's/csr1/csr3/; s/request: [^,]*/request: YWJj/' csr.yaml | kubectl create -f -", 1, &["*csr3*is invalid: spec.request: Invalid value: *"]),
];
