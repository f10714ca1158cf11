//! The objects of `examples/cloud/aws.yaml`: they run with the rights that they name, and are to AWS who they say.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use testkit::faulty::{Faulty, answer};

use crate::rack::{log_in, says};
use crate::rig::Rig;
use crate::site::{NEW, has_taint, node_is, nothing_was_forbidden, say_ready};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/cloud/aws.yaml");
/// Where the objects are, and what they are called.
const PLACE: &str = "sextant-cloud";
/// The only instance. Its node is called as it is.
const ID: &str = "i-0123456789abcdef0";

const ROLE: &str = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
    <AccessKeyId>ASIAWEB</AccessKeyId><SecretAccessKey>hush</SecretAccessKey><SessionToken>hush-hush</SessionToken>\
    <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
    </AssumeRoleWithWebIdentityResponse>";
const INSTANCES: &str = "<DescribeInstancesResponse><reservationSet><item><instancesSet><item>\
    <instanceId>i-0123456789abcdef0</instanceId><instanceState><code>16</code><name>running</name></instanceState>\
    <instanceType>m5.large</instanceType><placement><availabilityZone>eu-central-1a</availabilityZone></placement>\
    <vpcId>vpc-1</vpcId><privateIpAddress>10.0.0.1</privateIpAddress><privateDnsName>node.internal</privateDnsName>\
    </item></instancesSet></item></reservationSet></DescribeInstancesResponse>";
const REFUSED: &str =
    "<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>";

/// STS and EC2, as far as one node needs them; for which roles, and by which tokens, it was asked is noted.
fn aws(asked: &Arc<Mutex<Vec<(String, String)>>>) -> Faulty {
    let asked = asked.clone();
    Faulty::start(move |_, request, stream| {
        let (_, form) = request.split_once("\r\n\r\n").unwrap_or_default();
        let field = |name: &str| form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let (status, text) = match field("Action") {
            Some("AssumeRoleWithWebIdentity") => {
                let of = |name| field(name).unwrap_or_default().replace("%3A", ":").replace("%2F", "/");
                asked.lock().unwrap().push((of("RoleArn"), of("WebIdentityToken")));
                (200, ROLE)
            }
            Some("DescribeInstances") if request.contains("Credential=ASIAWEB/") => (200, INSTANCES),
            _ => (403, REFUSED),
        };
        answer(stream, status, "", text.as_bytes());
    })
}

/// A field of each of a list's objects that has this name, or path.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list}"))
}

#[tokio::test]
async fn the_objects_for_aws_run_and_are_who_they_say() {
    let mut rig = Rig::bare().await;
    let asked = Arc::default();
    let aws = aws(&asked);
    let applied = says(&rig, &["apply", "-f", EXAMPLE]);
    assert!(applied.contains("deployment.apps/sextant-cloud created"), "{applied}");
    log_in(&rig).await;

    let deployments: Api<Deployment> = rig.objects_of(PLACE);
    let object = serde_json::to_value(deployments.get(PLACE).await.unwrap()).unwrap();
    let pod = &object["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    // The file, as the ConfigMap has it, where the container would find it.
    let maps: Api<ConfigMap> = rig.objects_of(PLACE);
    let volume = named(&pod["volumes"], "config");
    let map = maps.get(volume["configMap"]["name"].as_str().unwrap()).await.unwrap();
    let config = rig.path("aws.conf");
    std::fs::write(&config, &map.data.unwrap()["aws.conf"]).unwrap();
    assert_eq!(named(&container["volumeMounts"], "config")["mountPath"], "/etc/sextant");
    // The token, as the kubelet would write it.
    let source = &named(&pod["volumes"], "token")["projected"]["sources"][0]["serviceAccountToken"];
    let mount = named(&container["volumeMounts"], "token")["mountPath"].as_str().unwrap();
    let told = &named(&container["env"], "AWS_WEB_IDENTITY_TOKEN_FILE")["value"];
    assert_eq!(*told, json!(format!("{mount}/{}", source["path"].as_str().unwrap())));
    let wish = json!({"spec": {"audiences": [source["audience"]], "expirationSeconds": source["expirationSeconds"]}});
    let wish: TokenRequest = serde_json::from_value(wish).unwrap();
    let accounts: Api<ServiceAccount> = rig.objects_of(PLACE);
    let account = pod["serviceAccountName"].as_str().unwrap();
    let token = accounts.create_token_request(account, &PostParams::default(), &wish).await.unwrap();
    let token = token.status.unwrap().token.unwrap();
    std::fs::write(rig.path("token"), &token).unwrap();

    for name in ["AWS_REGION", "AWS_ROLE_ARN"] {
        rig.env(name, named(&container["env"], name)["value"].as_str().unwrap());
    }
    let file = rig.path("token").display().to_string();
    rig.env("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
    rig.env("AWS_ENDPOINT_URL", &format!("http://{}", aws.addr));
    rig.env("AWS_EC2_METADATA_DISABLED", "true");
    let (config, kubeconfig) = (config.display().to_string(), rig.path("kubeconfig").display().to_string());
    let ours = |arg: &str| match arg {
        "--cloud-config=/etc/sextant/aws.conf" => format!("--cloud-config={config}"),
        "--metrics-listen=127.0.0.1:10258" => "--metrics-listen=127.0.0.1:0".into(),
        arg => arg.into(),
    };
    let mut args: Vec<String> =
        container["args"].as_array().unwrap().iter().map(|arg| ours(arg.as_str().unwrap())).collect();
    assert!(args.contains(&format!("--cloud-config={config}")), "{args:?}");
    args.extend(["--kubeconfig".into(), kubeconfig]);
    rig.spawn("control", &args.iter().map(String::as_str).collect::<Vec<_>>());
    rig.words_have("control", "has cloud provider aws").await;

    let taint = json!({"key": NEW, "value": "true", "effect": "NoSchedule"});
    rig.make::<cpi::contract::Node>(json!({"metadata": {"name": ID}, "spec": {"taints": [taint]}})).await;
    say_ready(&rig, ID, "True").await;
    let node = node_is(&rig, ID, "initialized", |node| {
        !has_taint(node, NEW) && node["status"]["addresses"].is_array() && node["spec"]["podCIDR"].is_string()
    })
    .await;
    assert_eq!(node["spec"]["providerID"], format!("aws:///eu-central-1a/{ID}"));
    assert_eq!(node["metadata"]["labels"]["topology.kubernetes.io/region"], "eu-central-1");
    let role = named(&container["env"], "AWS_ROLE_ARN")["value"].as_str().unwrap().to_owned();
    assert_eq!(asked.lock().unwrap().first(), Some(&(role, token.clone())));
    nothing_was_forbidden(&rig);
    let words = rig.words("control");
    assert!(!words.contains("hush") && !words.contains(&token) && !words.contains("cannot watch"), "{words}");
}
