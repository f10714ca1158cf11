//! Delete: grace, finalizers, cascades, namespaces.

use super::step::{Step, fails, ok};

pub(crate) const STEPS: &[Step] = &[
    ok(
        "for i in 1 2 3 4; do kubectl create cm m$i && kubectl label cm m$i odd=$((i % 2)); done",
        &["configmap/m4 labeled"],
    ),
    ok("kubectl delete cm m1", &["configmap \"m1\" deleted*"]),
    fails("kubectl delete cm m1", 1, &["Error from server (NotFound): configmaps \"m1\" not found"]),
    ok("kubectl delete cm m1 --ignore-not-found", &[]),
    ok("kubectl delete cm m2 --dry-run=server", &["configmap \"m2\" deleted*(server dry run)"]),
    ok("kubectl delete cm -l odd=0 -o name", &["configmap/m2", "configmap/m4", "- configmap/m3"]),
    ok("kubectl get cm -l odd -o name", &["configmap/m3"]),
    // A pod of a node that is not there waits for it.
    ok(
        "kubectl run a --image=x --overrides='{\"spec\":{\"nodeName\":\"n\"}}' && kubectl delete pod a --wait=false",
        &["pod/a created", "pod \"a\" deleted*"],
    ),
    ok("kubectl get pod a", &["a 0/1 Terminating 0 *"]),
    ok("kubectl get pod a -o jsonpath='{.metadata.deletionGracePeriodSeconds}'", &["30"]),
    ok(
        "kubectl delete pod a --grace-period=5 --wait=false; kubectl get pod a -o jsonpath='{.metadata.deletionGracePeriodSeconds}'",
        &["5"],
    ),
    ok("kubectl delete pod a --force --grace-period=0", &["pod \"a\" force deleted*"]),
    fails("kubectl get pod a", 1, &["*pods \"a\" not found"]),
    // One without a node goes at once.
    ok(
        "kubectl run b --image=x && kubectl delete pod b --timeout=240s",
        &["pod/b created", "pod \"b\" deleted*"],
    ),
    // Finalizers hold.
    ok(
        "kubectl create cm fin && kubectl patch cm fin -p '{\"metadata\":{\"finalizers\":[\"a.io/b\"]}}' && kubectl delete cm fin --wait=false",
        &["configmap/fin patched", "configmap \"fin\" deleted*"],
    ),
    ok(
        "kubectl get cm fin -o jsonpath='{.metadata.deletionTimestamp} {.metadata.finalizers}'",
        &["20*Z [\"a.io/b\"]"],
    ),
    fails(
        "kubectl patch cm fin -p '{\"metadata\":{\"finalizers\":[\"c.io/d\"]}}'",
        1,
        &["*metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted*"],
    ),
    fails(
        "kubectl delete cm fin --timeout=1s",
        1,
        &["error: timed out waiting for the condition on configmaps/fin"],
    ),
    ok(
        "kubectl patch cm fin --type=merge -p '{\"metadata\":{\"finalizers\":null}}'",
        &["configmap/fin patched"],
    ),
    fails("kubectl get cm fin", 1, &["*configmaps \"fin\" not found"]),
    // Cascades: in the background, in the foreground, and none.
    ok(
        "own() { kubectl create cm $1 && kubectl create cm $2 && kubectl patch cm $2 --type=merge -p '{\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"'$1'\",\"uid\":\"'$(kubectl get cm $1 -o jsonpath='{.metadata.uid}')'\",\"blockOwnerDeletion\":true}]}}'; }; \
         own back kid1; own fore kid2; own orph kid3",
        &["configmap/kid1 patched", "configmap/kid2 patched", "configmap/kid3 patched"],
    ),
    fails(
        "kubectl delete cm back; kubectl wait --for=delete cm/kid1 --timeout=240s; kubectl get cm kid1",
        1,
        &["configmap \"back\" deleted*", "*configmaps \"kid1\" not found"],
    ),
    ok("kubectl delete cm fore --cascade=foreground --timeout=240s", &["configmap \"fore\" deleted*"]),
    fails(
        "kubectl get cm kid2 fore",
        1,
        &["*configmaps \"kid2\" not found", "*configmaps \"fore\" not found"],
    ),
    ok("kubectl delete cm orph --cascade=orphan --timeout=240s", &["configmap \"orph\" deleted*"]),
    ok("kubectl get cm kid3 -o jsonpath='{.metadata.name}{.metadata.ownerReferences}'", &["kid3"]),
    // An owner that never was is no owner.
    fails(
        "kubectl create cm lost && kubectl patch cm lost --type=merge -p '{\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"never\",\"uid\":\"never\"}]}}' ; kubectl wait --for=delete cm/lost --timeout=240s; kubectl get cm lost",
        1,
        &["configmap/lost patched", "*configmaps \"lost\" not found"],
    ),
    fails(
        "kubectl delete cm m3 --cascade=bad",
        1,
        &["error: invalid cascade value (bad). Must be \"background\", \"foreground\", or \"orphan\""],
    )
    .since(21),
    ok(
        "kubectl create ns gone && kubectl create cm x -n gone && kubectl run p -n gone --image=x && kubectl delete ns gone --timeout=240s",
        &["namespace \"gone\" deleted*"],
    ),
    fails("kubectl get ns gone", 1, &["*namespaces \"gone\" not found"]),
    fails("kubectl create cm x -n gone", 1, &["*namespaces \"gone\" not found"]),
    fails(
        "kubectl delete ns default",
        1,
        &[
            "Error from server (Forbidden): namespaces \"default\" is forbidden: this namespace may not be deleted",
        ],
    ),
    ok(
        "kubectl create -f all.yaml && kubectl delete -f all.yaml --wait=false",
        &["pod \"p1\" deleted*", "*\"l1\" deleted*"],
    ),
    ok("kubectl delete cm --all", &["configmap \"kid3\" deleted*", "configmap \"m3\" deleted*"]),
    ok("kubectl get cm -o name", &["configmap/kube-root-ca.crt", "- configmap/m3"]),
];
