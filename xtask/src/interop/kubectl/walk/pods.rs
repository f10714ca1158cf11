//! Pods that run: logs, programs in them, files, ports, rollouts.

use super::step::{Step, fails, ok};

/// Waits until a command says something.
macro_rules! until {
    ($command:literal, $says:literal) => {
        concat!(
            "for i in $(seq 1000); do ",
            $command,
            " 2>/dev/null | grep -q '",
            $says,
            "' && break; sleep 0.2; done; ",
            $command
        )
    };
}

pub(crate) const STEPS: &[Step] = &[
    ok("kubectl get nodes", &["NAME STATUS ROLES AGE VERSION", "here Ready *"]),
    ok(
        "kubectl create deployment web --image=busybox:1 -- sh -c 'echo begins; mkdir -p /tmp/w; echo hello > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w'",
        &["deployment.apps/web created"],
    ),
    ok("kubectl rollout status deployment web --timeout=240s", &["deployment \"web\" successfully rolled out"]),
    ok("kubectl logs deploy/web", &["begins"]),
    // A log that goes on ends with its container.
    ok("kubectl run talk --image=busybox:1 --restart=Never -- sh -c 'for i in 1 2 3; do echo line $i; sleep 0.3; done'", &["pod/talk created"]),
    ok(until!("kubectl get pod talk -o jsonpath={.status.phase}", "[RS]u"), &["*u*"]),
    ok("kubectl logs -f talk", &["line 1", "line 2", "line 3"]),
    ok("kubectl logs talk --tail=1", &["line 3", "- line 2"]),
    // Programs.
    ok("kubectl exec deploy/web -- cat /tmp/w/index.html", &["hello"]),
    ok("script -qec \"kubectl exec -it deploy/web -- sh -c tty\" /dev/null", &["/dev/pts/0*"]),
    ok("echo typed | kubectl exec -i deploy/web -- cat", &["typed"]),
    fails("kubectl exec deploy/web -- sh -c 'exit 3'", 3, &["command terminated with exit code 3"]),
    ok("echo hello | kubectl run shell --image=busybox:1 -i --rm --restart=Never -- sh -c 'read x; echo got $x'", &["got hello"]),
    // Files.
    ok("kubectl get pods -l app=web -o jsonpath={.items[0].metadata.name} > pod; test -s pod && echo known", &["known"]),
    ok("echo some text > there && kubectl cp there $(cat pod):/tmp/there && kubectl exec $(cat pod) -- cat /tmp/there", &["some text"]),
    ok("kubectl cp $(cat pod):/tmp/there back && cat back", &["some text"]),
    // A program that waits for words.
    ok("kubectl run reader --image=busybox:1 --restart=Never --overrides='{\"spec\":{\"containers\":[{\"name\":\"reader\",\"image\":\"busybox:1\",\"stdin\":true,\"command\":[\"sh\",\"-c\",\"while read x; do echo got $x; done\"]}]}}'", &["pod/reader created"]),
    ok("kubectl wait --for=condition=ready pod/reader --timeout=240s", &["pod/reader condition met"]),
    ok("(sleep 1; echo one; sleep 1) | timeout 20 kubectl attach -i reader; kubectl logs reader", &["got one"]),
    // Ports.
    ok(
        "kubectl port-forward $(cat pod) 18080:8080 > forwards & it=$!; for i in $(seq 1800); do grep -q Forwarding forwards && break; sleep 0.1; done; busybox wget -qO- http://127.0.0.1:18080/; kill $it",
        &["hello"],
    ),
    // A container that comes later sees the others' processes.
    ok("kubectl debug $(cat pod) --image=busybox:1 --target=busybox -c look -- sh -c 'ps; echo looked' && echo begun", &["begun"]).since(25),
    ok(until!("kubectl logs $(cat pod) -c look", "looked"), &["*httpd -f -p 8080*", "looked"]).since(25),
    // Rollouts.
    ok("kubectl set env deployment/web COLOUR=blue && kubectl rollout status deployment web --timeout=240s", &["*web*env updated", "deployment \"web\" successfully rolled out"]),
    ok("kubectl rollout history deployment web", &["1 <none>", "2 <none>"]),
    ok("kubectl rollout undo deployment web && kubectl rollout status deployment web --timeout=240s", &["deployment.apps/web rolled back", "deployment \"web\" successfully rolled out"]),
    ok("kubectl get deployment web -o jsonpath='{.spec.template.spec.containers[0].env}'", &[]),
    ok("kubectl rollout restart deployment web && kubectl rollout status deployment web --timeout=240s", &["deployment.apps/web restarted", "deployment \"web\" successfully rolled out"]),
    ok("kubectl scale deployment web --replicas=2 && kubectl rollout status deployment web --timeout=240s", &["deployment.apps/web scaled", "deployment \"web\" successfully rolled out"]),
    ok("kubectl describe deployment web", &["Replicas: 2 desired | 2 updated | 2 total | 2 available | 0 unavailable", "Normal ScalingReplicaSet *"]),
    ok(until!("kubectl top nodes", "here"), &["NAME CPU(cores) CPU* MEMORY(bytes) MEMORY*", "here *m *% *Mi *%"]),
    // Newer ones name the namespace, too.
    ok("kubectl delete deployment/web pod/talk pod/reader --grace-period=1 --timeout=240s", &["deployment.apps \"web\" deleted*", "pod \"talk\" deleted*", "pod \"reader\" deleted*"]),
];
