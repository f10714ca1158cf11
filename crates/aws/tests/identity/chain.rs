//! Each place that credentials come from, to the requests that are made for them.

use std::fs;

use crate::world::{OFF, PROOF, REGION, World, ask, refusal};

const WEB: (&str, &str) = ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/web");

#[tokio::test]
async fn the_token_of_a_pod_is_exchanged_for_a_role() {
    let (world, dir) = (World::start(), tempfile::tempdir().unwrap());
    let file = dir.path().join("token");
    fs::write(&file, "jwt-1\n").unwrap();
    let token = ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap());
    let provider = world.provider("", &[REGION, OFF, WEB, token]);
    ask(&provider).await.unwrap();
    let asked = |role: u32| format!("DescribeInstances by web-{role} for eu-central-1/ec2");
    assert_eq!(
        world.heard(),
        ["AssumeRoleWithWebIdentity web jwt-1 by nobody".to_owned(), asked(1)],
        "the token proves who asks: nothing is signed"
    );
    ask(&provider).await.unwrap();
    assert_eq!(world.heard(), [asked(1)], "they are good for a while");
    // They are taken back before their time, and by then the pod has another token.
    fs::write(&file, "jwt-2").unwrap();
    world.refuse("DescribeInstances", 400, &refusal("RequestExpired"));
    ask(&provider).await.unwrap();
    let again = "AssumeRoleWithWebIdentity web jwt-2 by nobody".to_owned();
    assert_eq!(world.heard(), [asked(1), again, asked(2)]);
    assert!(!format!("{provider:?}").contains("hush"));
}

#[tokio::test]
async fn credentials_that_end_soon_are_asked_for_again() {
    let (world, dir) = (World::start(), tempfile::tempdir().unwrap());
    let file = dir.path().join("token");
    fs::write(&file, "jwt").unwrap();
    let token = ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap());
    let provider = world.provider("", &[REGION, OFF, WEB, token]);
    world.good_for(200);
    for role in 1..=2 {
        ask(&provider).await.unwrap();
        let asked = format!("DescribeInstances by web-{role} for eu-central-1/ec2");
        assert_eq!(world.heard(), ["AssumeRoleWithWebIdentity web jwt by nobody".to_owned(), asked]);
    }
    // Where there are no new ones, the old ones do as long as they are good.
    world.refuse("AssumeRoleWithWebIdentity", 403, &refusal("AccessDenied"));
    ask(&provider).await.unwrap();
    let asked = "DescribeInstances by web-2 for eu-central-1/ec2".to_owned();
    assert_eq!(world.heard(), ["AssumeRoleWithWebIdentity web jwt by nobody".to_owned(), asked]);
}

#[tokio::test]
async fn a_token_that_is_not_there_or_not_taken_is_told_and_not_shown() {
    let (world, dir) = (World::start(), tempfile::tempdir().unwrap());
    let file = dir.path().join("token");
    let token = ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap());
    let variables = [REGION, OFF, WEB, token];
    let error = ask(&world.provider("", &variables)).await.unwrap_err();
    assert!(error.contains("cannot read") && error.contains(token.1), "{error}");
    assert_eq!(world.heard(), [""; 0]);
    fs::write(&file, "jwt-secret").unwrap();
    for (code, told) in [
        ("AccessDenied", "allow sts:AssumeRoleWithWebIdentity in the IAM policy"),
        ("InvalidIdentityToken", "InvalidIdentityToken: no"),
    ] {
        world.refuse("AssumeRoleWithWebIdentity", 403, &refusal(code));
        let error = ask(&world.provider("", &variables)).await.unwrap_err();
        assert!(error.contains(told) && error.contains("role arn:aws:iam::123456789012:role/web"), "{error}");
        assert!(!error.contains("jwt-secret"), "{error}");
        assert_eq!(world.heard().len(), 1, "it is not asked for again in vain");
    }
    // Trouble passes.
    world.refuse("AssumeRoleWithWebIdentity", 503, "");
    ask(&world.provider("", &variables)).await.unwrap();
    assert_eq!(world.heard().len(), 3);
}

#[tokio::test]
async fn roles_are_taken_on_one_by_the_other() {
    let (world, home) = (World::start(), tempfile::tempdir().unwrap());
    fs::create_dir(home.path().join(".aws")).unwrap();
    let ops = "[profile ops]\nregion = eu-west-1\nrole_arn = arn:aws:iam::1:role/ops\nsource_profile = base\nexternal_id = ext-7\n";
    fs::write(home.path().join(".aws/config"), ops).unwrap();
    let keys = "[base]\naws_access_key_id = base\naws_secret_access_key = hush-base\n";
    fs::write(home.path().join(".aws/credentials"), keys).unwrap();
    let variables = [OFF, ("HOME", home.path().to_str().unwrap()), ("AWS_PROFILE", "ops")];
    let provider = world.provider("[Global]\nRoleARN = arn:aws:iam::2:role/cloud\n", &variables);
    ask(&provider).await.unwrap();
    let heard = [
        "AssumeRole ops ext-7 by base for eu-west-1/sts",
        "AssumeRole cloud by ops-1 for eu-west-1/sts",
        "DescribeInstances by cloud-2 for eu-west-1/ec2",
    ];
    assert_eq!(world.heard(), heard);
    // The one in the middle may not.
    let provider = world.provider("[Global]\nRoleARN = arn:aws:iam::2:role/cloud\n", &variables);
    world.refuse("AssumeRole cloud", 403, &refusal("AccessDenied"));
    let error = ask(&provider).await.unwrap_err();
    assert!(
        error.contains("role arn:aws:iam::2:role/cloud, taken on by role arn:aws:iam::1:role/ops"),
        "{error}"
    );
    assert!(error.contains("allow sts:AssumeRole in the IAM policy") && !error.contains("hush"), "{error}");
}

/// The server can tell: else all of these would say nothing.
#[tokio::test]
async fn a_wrong_secret_is_found_out() {
    let world = World::start();
    let keys = [("AWS_ACCESS_KEY_ID", "base"), ("AWS_SECRET_ACCESS_KEY", "hush-other")];
    let error = ask(&world.provider("", &[&[REGION, OFF][..], &keys].concat())).await.unwrap_err();
    assert!(error.contains("SignatureDoesNotMatch") && !error.contains("hush"), "{error}");
    assert_eq!(world.heard(), ["DescribeInstances by a forger"]);
    let keys = [("AWS_ACCESS_KEY_ID", "base"), ("AWS_SECRET_ACCESS_KEY", "hush-base")];
    ask(&world.provider("", &[&[REGION, OFF][..], &keys].concat())).await.unwrap();
    assert_eq!(world.heard(), ["DescribeInstances by base for eu-central-1/ec2"]);
}

#[tokio::test]
async fn the_agent_of_a_container_tells() {
    let (world, dir) = (World::start(), tempfile::tempdir().unwrap());
    let (at, file) = (world.at("/v1/credentials"), dir.path().join("proof"));
    let agent = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", at.as_str());
    let by_file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap());
    fs::write(&file, "another").unwrap();
    let provider = world.provider("", &[REGION, OFF, agent, by_file]);
    let error = ask(&provider).await.unwrap_err();
    assert!(error.contains("the agent at 127.0.0.1") && error.contains("status 401"), "{error}");
    assert!(!error.contains("another"), "{error}");
    assert_eq!(world.heard(), ["GET /v1/credentials"]);
    // It is read each time: the kubelet replaces it.
    fs::write(&file, format!("{PROOF}\n")).unwrap();
    let provider = world.provider("", &[REGION, OFF, agent, by_file]);
    ask(&provider).await.unwrap();
    let asked = |number: u32| format!("DescribeInstances by agent-{number} for eu-central-1/ec2");
    assert_eq!(world.heard(), ["GET /v1/credentials".to_owned(), asked(1)]);
    // By a variable, as ECS has it; and what is told may be a role's base.
    let by_text = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", PROOF);
    let provider =
        world.provider("[Global]\nRoleARN = arn:aws:iam::1:role/cloud\n", &[REGION, OFF, agent, by_text]);
    ask(&provider).await.unwrap();
    let heard = [
        "GET /v1/credentials",
        "AssumeRole cloud by agent-2 for eu-central-1/sts",
        "DescribeInstances by cloud-3 for eu-central-1/ec2",
    ];
    assert_eq!(world.heard(), heard);
}

const TOKEN: &str = "PUT /latest/api/token";
const ROLES: &str = "GET /latest/meta-data/iam/security-credentials/";

#[tokio::test]
async fn the_metadata_service_tells_role_and_region() {
    let world = World::start();
    let at = world.at("");
    let service = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", at.as_str());
    let provider = world.provider("", &[service]);
    // It is in trouble for a moment.
    world.refuse(TOKEN, 503, "");
    world.refuse(ROLES, 500, "");
    ask(&provider).await.unwrap();
    let (region, worker) = ("GET /latest/meta-data/placement/region", format!("{ROLES}worker"));
    let asked = |number: u32| format!("DescribeInstances by instance-{number} for eu-north-1/ec2");
    let first: Vec<String> =
        [TOKEN, TOKEN, region, TOKEN, ROLES, ROLES, worker.as_str()].map(String::from).into();
    assert_eq!(world.heard(), [first, vec![asked(1)]].concat());
    // The role's keys are taken back.
    world.refuse("DescribeInstances", 400, &refusal("ExpiredToken"));
    ask(&provider).await.unwrap();
    let renewed: Vec<String> = [TOKEN, ROLES, worker.as_str()].map(String::from).into();
    assert_eq!(world.heard(), [vec![asked(1)], renewed, vec![asked(2)]].concat());
}

#[tokio::test]
async fn what_the_metadata_service_does_not_tell_is_told() {
    let world = World::start();
    let at = world.at("/");
    let service = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", at.as_str());
    let roles: Vec<String> = [TOKEN, ROLES].map(String::from).into();
    for (what, status, text, told, heard) in [
        // The first version of it alone, which is not asked.
        (TOKEN, 404, "", "answers /latest/api/token with status 404", roles[..1].to_vec()),
        (ROLES, 404, "", "with status 404", roles.clone()),
        (ROLES, 200, "\n", "the instance has no role; give it an instance profile", roles.clone()),
        (ROLES, 200, "../../user-data", "the instance has no role", roles.clone()),
    ] {
        world.refuse(what, status, text);
        let error = ask(&world.provider("", &[REGION, service])).await.unwrap_err();
        assert!(
            error.contains(told) && error.contains("none are set either by AWS_ACCESS_KEY_ID"),
            "{error}"
        );
        assert_eq!(world.heard(), heard);
    }
    // Nothing of what it says is shown.
    let worker = format!("{ROLES}worker");
    world.refuse(&worker, 200, r#"{"Code":"Failed","AccessKeyId":"hush"}"#);
    let error = ask(&world.provider("", &[REGION, service])).await.unwrap_err();
    assert!(error.contains("\"Failed\"") && !error.contains("hush"), "{error}");
}
