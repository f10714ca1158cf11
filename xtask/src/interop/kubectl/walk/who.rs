//! Who may what: questions, roles, impersonation, tokens.

use super::step::{Step, fails, ok};

pub(crate) const STEPS: &[Step] = &[
    ok("kubectl create sa sa1 && kubectl create role r --verb=get,list --resource=pods,configmaps && kubectl create rolebinding rb --role=r --serviceaccount=default:sa1 --user=jane", &["serviceaccount/sa1 created", "*/r created", "*/rb created"]),
    ok("kubectl auth can-i '*' '*'", &["yes"]),
    ok("kubectl auth can-i get pods --as=jane", &["yes"]),
    fails("kubectl auth can-i delete pods --as=jane", 1, &["no"]),
    fails("kubectl auth can-i get pods --as=jane -A", 1, &["no"]),
    fails("kubectl auth can-i get pods --subresource=log --as=jane", 1, &["no"]),
    ok("kubectl auth can-i get /healthz --as=jane", &["yes"]),
    ok("kubectl auth can-i --list --as=jane", &["Resources Non-Resource URLs Resource Names Verbs", "configmaps [] [] [get list]", "[/healthz] [] [get]"]),
    ok("kubectl auth whoami --as=jane --as-group=g1", &["Username jane", "Groups [g1 system:authenticated]"]).since(27),
    ok("kubectl get cm --as=jane -o name", &["configmap/kube-root-ca.crt"]),
    fails("kubectl get secrets --as=jane", 1, &["Error from server (Forbidden): secrets is forbidden: User \"jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\""]),
    fails("kubectl create cm x --as=jane", 1, &["*configmaps is forbidden: User \"jane\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"default\""]),
    fails("kubectl apply -f cm.yaml --server-side --as=jane", 1, &["*configmaps \"a1\" is forbidden: User \"jane\" cannot patch resource \"configmaps\" in API group \"\" in the namespace \"default\""]),
    ok("kubectl get secrets --as=jane --as-group=system:masters", &["No resources found in default namespace."]),
    // Nobody gives what he does not have.
    ok("kubectl create role mk --verb=get,create,update,patch --resource=roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io && kubectl create rolebinding mk --role=mk --user=mk", &["*/mk created", "*/mk created"]),
    fails("kubectl create role esc --verb=delete --resource=secrets --as=mk", 1, &["*user \"mk\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:", "{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"delete\"]}"]),
    fails("kubectl create rolebinding esc --clusterrole=cluster-admin --user=x --as=mk", 1, &["*is attempting to grant RBAC permissions not currently held:"]),
    ok("kubectl auth reconcile -n default -f rbac.yaml", &["role.rbac.authorization.k8s.io/rec1 reconciled", "rolebinding.rbac.authorization.k8s.io/recb reconciled"]),
    ok("sed 's/\\[get\\]/[get, list]/' rbac.yaml | kubectl auth reconcile -n default -f - && kubectl get role rec1 -o jsonpath='{.rules[*].verbs}'", &["*list*"]),
    // With a token instead of the administrator's certificate.
    ok(
        "kubectl config set-credentials t --token=$(kubectl create token sa1) && kubectl config set-context t --cluster=$(kubectl config view --minify -o jsonpath='{.contexts[0].context.cluster}') --user=t",
        &["User \"t\" set.", "Context \"t\" created."],
    )
    .since(24),
    ok("kubectl --context t auth whoami", &["Username system:serviceaccount:default:sa1", "Groups [system:serviceaccounts system:serviceaccounts:default system:authenticated]"]).since(27),
    ok("kubectl --context t get cm -o name", &["configmap/kube-root-ca.crt"]).since(24),
    fails("kubectl --context t get nodes", 1, &["*nodes is forbidden: User \"system:serviceaccount:default:sa1\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"]).since(24),
    ok("kubectl delete sa sa1", &["serviceaccount \"sa1\" deleted*"]),
    fails("kubectl --context t get cm", 1, &["error: You must be logged in to the server (Unauthorized)"]).since(24),
    fails("kubectl --kubeconfig=/dev/null --insecure-skip-tls-verify --server=$(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}') --token=bad get cm", 1, &["error: You must be logged in to the server (*"]),
];
