//! Get and describe: forms, selectors, chunks, watches, waits, events.

use super::step::{Step, fails, ok};

pub(crate) const STEPS: &[Step] = &[
    ok("kubectl create -f all.yaml && kubectl apply -f deploy.yaml", &["pod/p1 created", "deployment.apps/d1 created"]),
    ok("for i in 1 2 3 4 5; do kubectl create cm m$i --from-literal=i=$i && kubectl label cm m$i n=$i odd=$((i % 2)); done", &["configmap/m1 created", "configmap/m5 labeled"]),
    ok("kubectl get cm m1", &["NAME DATA AGE", "m1 1 *"]),
    ok("kubectl get cm m1 -o yaml", &["apiVersion: v1", "i: \"1\"", "kind: ConfigMap", "name: m1", "namespace: default", "resourceVersion: \"*\"", "uid: *-*-*-*-*"]),
    ok("kubectl get pods -o wide", &["NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES", "p1 0/1 Pending 0 * <none> <none> <none> <none>"]),
    ok("kubectl get pods p1 -o jsonpath='{.spec.containers[*].image} {.status.qosClass}'", &["nginx:1 Burstable"]),
    ok("kubectl get pods -o custom-columns=N:.metadata.name,I:.spec.containers[*].image", &["N I", "p1 nginx:1"]),
    ok("kubectl get pods -o go-template='{{range .items}}{{.metadata.name}}{{end}}'", &["p1"]),
    ok("kubectl get pod/p1 cm/m1 -o name", &["pod/p1", "configmap/m1"]),
    ok("kubectl get deploy d1 --show-labels", &["NAME READY UP-TO-DATE AVAILABLE AGE LABELS", "d1 0/2 0 0 * app=d1"]),
    ok("kubectl get sts,ds,cronjob,pvc,lease", &["statefulset.apps/ss1 0/2 *", "daemonset.apps/ds1 0 0 0 0 0 <none> *", "cronjob.batch/cj1 * False 0 <none> *", "persistentvolumeclaim/pvc1 Pending sc1 *", "lease.coordination.k8s.io/l1 me *"]),
    fails("kubectl get cm m1 nope", 1, &["m1 1 *", "Error from server (NotFound): configmaps \"nope\" not found"]),
    ok("kubectl get cm m1 nope --ignore-not-found -o name", &["configmap/m1"]),
    fails("kubectl get pod x -n nope", 1, &["Error from server (NotFound): namespaces \"nope\" not found"]),
    // Selectors.
    ok("kubectl get cm -l odd=1 -o name", &["configmap/m1", "configmap/m3", "configmap/m5", "- configmap/m2", "- configmap/m4"]),
    ok("kubectl get cm -l 'n in (1,2)' -o name", &["configmap/m1", "configmap/m2", "- configmap/m3"]),
    ok("kubectl get cm -l 'n notin (1,2),odd' -o name", &["configmap/m3", "configmap/m4", "configmap/m5", "- configmap/m1"]),
    ok("kubectl get cm -l 'n>3' -o name", &["configmap/m4", "configmap/m5", "- configmap/m3"]),
    fails("kubectl get cm -l 'n==='", 1, &["*unable to parse requirement*"]),
    ok("kubectl get cm -L odd", &["NAME DATA AGE ODD", "m1 1 * 1", "m2 1 * 0"]),
    ok("kubectl get cm --field-selector metadata.name=m1 -o name", &["configmap/m1", "- configmap/m2"]),
    ok("kubectl get pods --field-selector status.phase=Pending,spec.restartPolicy=Always -o name", &["pod/p1"]),
    ok("kubectl get pods --field-selector status.phase=Running -o name", &[]),
    fails("kubectl get cm --field-selector nope=1", 1, &["Error from server (BadRequest): *\"nope\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""]),
    // Chunks.
    ok("kubectl get cm --chunk-size=2 -o name | grep -c /m", &["5"]),
    ok("kubectl get --raw '/api/v1/namespaces/default/configmaps?limit=2' | grep -o '\"remainingItemCount\":[0-9]*'", &["\"remainingItemCount\":4"]),
    ok("kubectl get --raw \"/api/v1/namespaces/default/configmaps?limit=2&continue=$(kubectl get --raw '/api/v1/namespaces/default/configmaps?limit=2' | grep -o '\"continue\":\"[^\"]*' | cut -d'\"' -f4)\" | grep -o '\"name\":\"m[0-9]\"'", &["\"name\":\"m2\"", "\"name\":\"m3\""]),
    fails("kubectl get --raw '/api/v1/namespaces/default/configmaps?limit=2&continue=bad'", 1, &["*continue key is not valid*"]),
    // Watches: what is there, then what happens.
    ok(
        "timeout 300 kubectl get cm -w --output-watch-events -l n=1 -o jsonpath='{.type}/{.object.metadata.name}/{.object.metadata.labels.w}{\"\\n\"}' > seen & \
         until grep -q ADDED seen; do sleep 0.1; done; kubectl label cm m1 w=1; kubectl label cm m1 n=9 --overwrite; \
         until grep -q DELETED seen; do sleep 0.1; done; kill $!; cat seen",
        &["ADDED/m1/", "MODIFIED/m1/1", "DELETED/m1/1"],
    ),
    ok(
        "timeout 300 kubectl get pods p1 -w -o wide > seen & until grep -q p1 seen; do sleep 0.1; done; \
         kubectl delete pod p1 --force --grace-period=0; until [ $(grep -c p1 seen) -gt 1 ]; do sleep 0.1; done; kill $!; cat seen",
        &["p1 0/1 Pending 0 *", "p1 0/1 * 0 *"],
    ),
    ok("kubectl get --raw '/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=3&resourceVersion=1' | head -c 2000", &["{\"type\":\"*"]),
    ok(
        "kubectl get --raw '/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=3&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=n%3D2' | cut -c1-40",
        &["{\"type\":\"ADDED\",*", "{\"type\":\"BOOKMARK\",*"],
    ),
    // Waits.
    ok("(sleep 3; kubectl delete cm m5) & kubectl wait --for=delete cm/m5 --timeout=240s; wait", &["configmap/m5 condition met"]),
    fails("kubectl wait --for=condition=Available deploy/d1 --timeout=1s", 1, &["error: timed out waiting for the condition on deployments/d1"]),
    ok(
        "(until kubectl get pod w > looked 2>&1; do sleep 0.2; done; kubectl patch pod w --subresource=status -p '{\"status\":{\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}') & \
         kubectl run w --image=x; kubectl wait --for=condition=Ready pod/w --timeout=240s; wait",
        &["pod/w condition met"],
    )
    .since(24),
    ok("kubectl wait --for=jsonpath='{.status.phase}'=Running pod/w --timeout=240s", &["pod/w condition met"]).since(24),
    // Events.
    ok("kubectl get events", &["LAST SEEN TYPE REASON OBJECT MESSAGE", "* Warning Because pod/p1 it happened"]),
    ok("kubectl get events --field-selector type=Warning,involvedObject.name=p1 -o name", &["event/ev1"]),
    ok("kubectl events --for pod/p1 --types=Warning", &["* Warning Because Pod/p1 it happened"]).since(27),
    ok("kubectl describe deploy d1", &["Name: d1", "Selector: app=d1", "Replicas: 2 desired |*", "Image: nginx:1"]),
    ok("kubectl describe svc s1", &["Name: s1", "Selector: app=p", "TargetPort: http/TCP"]),
    fails("kubectl describe pod nope", 1, &["Error from server (NotFound): pods \"nope\" not found"]),
    // A pod without a node: no logs, and nowhere to run anything.
    ok("kubectl logs w", &[]).since(24),
    fails("kubectl exec w -- true", 1, &["*pod w does not have a host assigned"]).since(24),
    fails("kubectl logs w -c nope", 1, &["*container nope is not valid for pod w"]).since(24),
];
