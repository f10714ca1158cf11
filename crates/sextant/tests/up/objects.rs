//! The shop of `examples/`, and the commands that need no kubectl.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use cri::caller::{Blocking, Client};
use cri::contract::v1::{
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, ListPodSandboxRequest, NamespaceMode,
    NamespaceOption, PodSandbox, PodSandboxConfig, PodSandboxMetadata, PodSandboxState,
    RemovePodSandboxRequest, RunPodSandboxRequest,
};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use kube::config::{AuthInfo, Kubeconfig};
use serde_json::Value;

use super::Machine;
use super::whole::client;

/// Where the examples are.
const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/shop");

/// A machine with the shop, which is open.
fn open() -> Machine {
    let machine = Machine::new();
    machine.says(&["demo", "--image"]);
    // The first command of an instance makes its folders, whichever it is.
    let mode = std::fs::metadata(machine.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let words = machine.up(&["--node-name", "here", "--apply", SHOP]);
    assert!(
        words.contains("namespace/shop created") && words.contains("job.batch/orders created"),
        "{words}"
    );
    let again = machine.says(&["apply", "-f", SHOP, "--wait", "--timeout", "90s"]);
    for line in
        ["deployment.apps/web unchanged", "service/database unchanged", "configmap/settings unchanged"]
    {
        assert!(again.contains(line), "{again}");
    }
    machine
}

#[test]
fn objects_are_listed_shown_and_changed() {
    let machine = open();
    let says = |words: &str| machine.says(&words.split(' ').collect::<Vec<_>>());

    let pods = says("get po -n shop -l app=web");
    assert!(pods.starts_with("NAME ") && pods.lines().count() == 3 && pods.contains("Running"), "{pods}");
    let wide = says("get pods -A -o wide --field-selector spec.nodeName=here");
    assert!(
        wide.starts_with("NAMESPACE ") && wide.contains("NOMINATED NODE") && wide.contains(" here "),
        "{wide}"
    );
    let several = says("get deploy,svc -n shop");
    assert!(
        several.contains("deployment.apps/web ")
            && several.contains("\n\nNAME")
            && several.contains("service/api "),
        "{several}"
    );
    assert!(says("get all -n shop").contains("statefulset.apps/database "));
    assert_eq!(says("get ns/shop cm/settings -n shop -o name"), "namespace/shop\nconfigmap/settings\n");
    let one: Value = serde_json::from_str(&says("get deploy web -n shop -o json")).unwrap();
    assert!(one["kind"] == "Deployment" && one["metadata"].get("managedFields").is_none(), "{one}");
    let list: Value = serde_json::from_str(&says("get deploy -n shop -o json")).unwrap();
    assert!(list["kind"] == "List" && list["items"][0]["kind"] == "Deployment", "{list}");
    let yaml = says("get service web -n shop -o yaml");
    assert!(yaml.contains("\nkind: Service\n") && yaml.contains("\n  clusterIP: \"10.96."), "{yaml}");
    let missing = machine.refuses(&["get", "pod", "nobody"]);
    assert_eq!(missing, "sextant: pods \"nobody\" not found\n");
    assert!(machine.refuses(&["get", "wishes"]).contains("no kind \"wishes\""));
    for words in ["get pod/database-0 -A", "describe po database-0 -A", "get po database-0 -n shop -l a=b"] {
        let refused = machine.refuses(&words.split(' ').collect::<Vec<_>>());
        assert!(refused.contains("cannot look for "), "{words}: {refused}");
    }
    let nothing = machine.ask(&["get", "pods", "-n", "default"]);
    assert_eq!(String::from_utf8_lossy(&nothing.stderr), "No resources found in default namespace.\n");

    let pod = says("describe pod database-0 -n shop");
    for words in [
        "Controlled By:    StatefulSet/database",
        "State:        Running",
        "Conditions:",
        "Volumes:",
        "Scheduled ",
    ] {
        assert!(pod.contains(words), "{words}: {pod}");
    }
    let node = says("describe node here");
    assert!(
        node.contains("Addresses:") && node.contains("database-0") && node.contains("Kubelet Version"),
        "{node}"
    );
    let service = says("describe svc/web -n shop");
    assert!(service.contains(":8080, 10.") && service.contains("Selector:         app=web"), "{service}");
    assert!(says("describe job orders -n shop").contains("Completions:    3"));
    says(&format!("apply -f {}", machine.file("secret.yaml", SECRET)));
    let secret = says("describe secret door");
    assert!(secret.contains("key: 7 bytes") && secret.contains("by: a test"), "{secret}");
    assert!(!secret.contains("last-applied") && !secret.contains("b3BlbjE="), "{secret}");

    let done = says("rollout restart deploy/web -n shop");
    assert_eq!(done, "deployment.apps/web restarted\n");
    let told = says("rollout status deploy/web -n shop --timeout 90s");
    assert!(told.ends_with("deployment \"web\" successfully rolled out\n"), "{told}");
    assert_eq!(
        says("wait --for condition=available deploy/web -n shop"),
        "deployment.apps/web condition met\n"
    );

    let explained = says("explain shop/database-0");
    assert!(
        explained.contains("runs and is ready, on node here") && explained.contains("On the node:"),
        "{explained}"
    );

    assert!(says("delete pod database-0 -n shop").contains("pod/database-0 deleted"));
    machine.until(&["get", "pod", "database-0", "-n", "shop"], |said| said.contains("1/1"));
    let deleted = says(&format!("delete -f {SHOP}"));
    assert!(
        deleted.contains("namespace/shop deleted") && deleted.contains("statefulset.apps/database deleted"),
        "{deleted}"
    );
    assert!(machine.refuses(&["delete", "-f", SHOP]).contains("not found"));
    says(&format!("delete -f {SHOP} --ignore-not-found"));
    says("down");
    says("rmi registry.sextant.example/shop:1");
}

/// As `kubectl apply` leaves one behind.
const SECRET: &str = r#"
apiVersion: v1
kind: Secret
metadata:
  name: door
  annotations:
    by: a test
    kubectl.kubernetes.io/last-applied-configuration: '{"data": {"key": "b3BlbjE="}}'
data: {key: b3Blbu+/vQ==}
"#;

#[tokio::test]
async fn logs_and_programs_of_pods() {
    let machine = open();
    let says = |words: &str| machine.says(&words.split(' ').collect::<Vec<_>>());
    let said = says("logs job/orders --namespace shop");
    assert!(said.contains("ordered apple 2"), "{said}");
    assert_eq!(says("logs pod/database-0 -c database --namespace shop --tail 1").lines().count(), 1);

    let mut follow = machine.command(&["logs", "-f", "database-0", "--namespace", "shop"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let asked = [
        "exec",
        "deploy/web",
        "-n",
        "shop",
        "--",
        "/bin/sextant-demo-app",
        "get",
        "database:8080/by-the-test",
    ];
    assert_eq!(machine.ask(&asked).status.code(), Some(1), "nothing is there");
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("/by-the-test")));
    follow.kill().unwrap();
    follow.wait().unwrap();

    // As people type it for kubectl, and the code is the program's.
    let ended = machine.ask(&[
        "exec",
        "database-0",
        "-n",
        "shop",
        "-c",
        "database",
        "--",
        "/bin/sextant-demo-app",
        "get",
        "nowhere",
    ]);
    assert!(
        ended.status.code() == Some(1)
            && String::from_utf8_lossy(&ended.stderr).contains("sextant-demo-app: "),
        "{ended:?}"
    );
    let ended = machine.ask(&["exec", "-n", "shop", "database-0", "/bin/nothing"]);
    assert!([Some(126), Some(127)].contains(&ended.status.code()), "{ended:?}");
    for words in ["exec database-0 -u nobody -n shop -- sh", "exec -n shop -u nobody database-0 sh"] {
        let refused = machine.refuses(&words.split(' ').collect::<Vec<_>>());
        assert!(refused.contains("cannot use --user with a pod's container"), "{refused}");
    }
    // Whoever shows a token has it in a file, as programs in pods do.
    let within = with_token(&machine).await;
    says(&format!("exec --kubeconfig {within} database-0 -n shop -- /bin/sextant-demo-app true"));
    assert!(
        machine
            .refuses(&["logs", "database-0", "-c", "other", "--namespace", "shop"])
            .contains("it has database")
    );

    // Names that only the API has are found where no namespace is given.
    let pod = machine.file("echo.yaml", ECHO);
    says(&format!("apply -f {pod} --wait --timeout 90s"));
    machine.until(&["logs", "echo"], |said| said.contains("listening on port 8080"));

    // A container of `sextant run` comes first, whatever pods there are.
    says("run -d --name echo --network none registry.sextant.example/shop:1 nonsense");
    assert_eq!(says("wait echo"), "1\n");
    let own = machine.ask(&["logs", "echo"]);
    assert!(own.stdout.is_empty() && !own.stderr.is_empty(), "{own:?}");
    says("rm echo");
    assert!(says("logs echo").contains("listening on port 8080"));
    // A runtime in the environment, as users of crictl have it, is asked for what a runtime has.
    let runtime = machine.folder.path().join("run/cri.sock");
    for words in ["logs pod/echo", "explain echo -n default"] {
        let mut command = machine.command(&words.split(' ').collect::<Vec<_>>());
        let said = command.env("CONTAINER_RUNTIME_ENDPOINT", &runtime).output().unwrap();
        let out = String::from_utf8_lossy(&said.stdout);
        assert!(out.contains("listening on port 8080") || out.contains("runs and is ready"), "{said:?}");
    }
    let mut attach =
        machine.command(&["exec", "-i", "echo", "--", "/bin/sextant-demo-app", "get", "127.0.0.1:8080"]);
    let mut attach = attach.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    attach.stdin.take().unwrap().write_all(b"nobody reads this\n").unwrap();
    let out = attach.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("this is echo as process 1"), "{out:?}");
}

const ECHO: &str = "
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: 'registry.sextant.example/shop:1', imagePullPolicy: Never}
";

/// A kubeconfig of a service account that may do all, whose token is in a file.
async fn with_token(machine: &Machine) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client(machine).await, "shop");
    machine.says(&["apply", "-f", &machine.file("rights.yaml", RIGHTS)]);
    let (params, request) = (PostParams::default(), TokenRequest::default());
    let made = accounts.create_token_request("default", &params, &request).await.unwrap();
    let token = made.status.unwrap().token.unwrap();
    let token_file = Some(machine.file("token", &token));
    let mut kubeconfig = Kubeconfig::read_from(machine.data().join("kubeconfig")).unwrap();
    kubeconfig.auth_infos[0].auth_info = Some(AuthInfo { token_file, ..AuthInfo::default() });
    machine.file("within", &serde_json::to_string(&kubeconfig).unwrap())
}

const RIGHTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: of-the-shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: default, namespace: shop}]
";

#[test]
fn a_reset_leaves_nothing() {
    let machine = open();
    let asked = machine.ask(&["reset"]);
    assert!(String::from_utf8_lossy(&asked.stderr).contains("give --yes"), "{asked:?}");
    machine.says(&[
        "run",
        "-d",
        "--name",
        "kept",
        "--network",
        "none",
        "registry.sextant.example/shop:1",
        "serve",
    ]);
    let refused = machine.refuses(&["reset", "--yes", "--images"]);
    assert!(refused.contains("container kept of `sextant run` is made of one"), "{refused}");
    assert!(machine.status().1, "nothing was ended");
    machine.says(&["rm", "-f", "kept"]);

    // A kubelet's pod is that kubelet's to end, and what tells of it stays for as long.
    let pod = another(&machine);
    let refused = machine.refuses(&["reset", "--yes"]);
    assert!(refused.contains("1 on this node are not the agent's"), "{refused}");
    machine.up(&["--node-name", "here"]);
    let cri = Blocking::connect(&machine.folder.path().join("run/cri.sock")).unwrap();
    let pods = cri.wait(async |c| c.list_pod_sandbox(ListPodSandboxRequest::default()).await).unwrap();
    let found = pods.items.iter().find(|one| one.id == pod);
    assert_eq!(found.map(PodSandbox::state), Some(PodSandboxState::SandboxReady), "{pods:?}");
    let request = RemovePodSandboxRequest { pod_sandbox_id: pod };
    cri.wait(async |c| c.remove_pod_sandbox(request).await).unwrap();
    machine.says(&["reset", "--yes"]);
    assert!(machine.status().0.is_empty());
    let mut left: Vec<String> = std::fs::read_dir(machine.data())
        .unwrap()
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    left.retain(|name| {
        !matches!(name.as_str(), "images" | "containers" | "names" | "ledger" | "cni" | "nri" | "volumes")
    });
    assert_eq!(left, [""; 0]);
    // It begins anew.
    machine.up(&["--node-name", "here"]);
    let nothing = machine.ask(&["get", "deploy", "-A"]);
    assert_eq!(String::from_utf8_lossy(&nothing.stderr), "No resources found\n");
}

/// A pod that is not the agent's, on the network of the node; its id.
fn another(machine: &Machine) -> String {
    let cri = Blocking::connect(&machine.folder.path().join("run/cri.sock")).unwrap();
    let metadata = PodSandboxMetadata {
        name: "another".into(),
        uid: "uid-another".into(),
        namespace: "tests".into(),
        attempt: 0,
    };
    let options = NamespaceOption { network: NamespaceMode::Node.into(), ..NamespaceOption::default() };
    let security = LinuxSandboxSecurityContext {
        namespace_options: Some(options),
        ..LinuxSandboxSecurityContext::default()
    };
    let linux =
        LinuxPodSandboxConfig { security_context: Some(security), ..LinuxPodSandboxConfig::default() };
    let config =
        PodSandboxConfig { metadata: Some(metadata), linux: Some(linux), ..PodSandboxConfig::default() };
    let request = RunPodSandboxRequest { config: Some(config), ..RunPodSandboxRequest::default() };
    cri.wait(async |c: &Client| c.run_pod_sandbox(request).await).unwrap().pod_sandbox_id
}
