//! What a kube-apiserver 1.36.2 answered to the same bodies.

use super::*;
use crate::schema::{Arena, Node, builtin};
use proptest::prelude::*;
use serde_json::json;

fn expected(kind: &str) -> Expected<'static> {
    match kind {
        "Pod" => of("v1", "Pod", "io.k8s.api.core.v1.Pod"),
        "Secret" => of("v1", "Secret", "io.k8s.api.core.v1.Secret"),
        "ConfigMap" => of("v1", "ConfigMap", "io.k8s.api.core.v1.ConfigMap"),
        "Deployment" => of("apps/v1", "Deployment", "io.k8s.api.apps.v1.Deployment"),
        "CustomResourceDefinition" => of(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        ),
        other => panic!("no such kind here: {other}"),
    }
}

fn of(api_version: &'static str, kind: &'static str, name: &str) -> Expected<'static> {
    Expected { api_version, kind, schema: builtin(name).unwrap() }
}

fn message(kind: &str, body: &str, validation: FieldValidation) -> String {
    let status = object(body.as_bytes(), Media::Json, &expected(kind), validation).expect_err(body);
    assert_eq!(status.code, 400);
    status.message
}

#[test]
fn malformed_bodies() {
    let struct_type = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    let no_struct = |what: &str| format!("json: cannot unmarshal {what} into Go value of type {struct_type}");
    for (body, cause, shown) in [
        ("", "unexpected end of JSON input".to_owned(), "<empty>"),
        ("{", "unexpected end of JSON input".to_owned(), "{"),
        ("[1,", "unexpected end of JSON input".to_owned(), "5b312c"),
        ("-a", "invalid character 'a' in numeric literal".to_owned(), "2d61"),
        ("01", "invalid character '1' after top-level value".to_owned(), "3031"),
        ("{a:1}", "invalid character 'a' looking for beginning of object key string".to_owned(), "{a:1}"),
        (r#"{"a" 1}"#, "invalid character '1' after object key".to_owned(), r#"{"a" 1}"#),
        (r#"{"a":1 "b"}"#, "invalid character '\"' after object key:value pair".to_owned(), r#"{"a":1 "b"}"#),
        ("[1 2]", "invalid character '2' after array element".to_owned(), "5b3120325d"),
        ("\u{1}", r"invalid character '\x01' looking for beginning of value".to_owned(), "01"),
        ("nulx", "invalid character 'x' in literal null (expecting 'l')".to_owned(), "6e756c78"),
        (r#"{"a":1}}"#, "invalid character '}' after top-level value".to_owned(), r#"{"a":1}}"#),
        ("[1]", no_struct("array"), "5b315d"),
        ("true", no_struct("bool"), "74727565"),
        (
            r#"{"kind":1}"#,
            "json: cannot unmarshal number into Go struct field .kind of type string".to_owned(),
            r#"{"kind":1}"#,
        ),
        (
            r#"{"apiVersion": "v1", kind: "Pod"}"#,
            "invalid character 'k' looking for beginning of object key string".to_owned(),
            r#"{"apiVersion": "v1", kind: "Po ..."#,
        ),
    ] {
        let wanted = format!(
            "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: \
             {cause} ({shown})"
        );
        assert_eq!(message("Pod", body, FieldValidation::Warn), wanted);
    }
}

#[test]
fn other_kinds_and_versions() {
    for (body, wanted) in [
        (
            r#"{"kind":"Pod","apiVersion":"a/b/c"}"#,
            r#"the object provided is unrecognized (must be of type Pod): unexpected GroupVersion string: a/b/c ({"kind":"Pod","apiVersion":"a/ ...)"#,
        ),
        (
            r#"{"kind":"Pod","apiVersion":"apps/"}"#,
            r#"Pod in version "" cannot be handled as a Pod: Object 'apiVersion' is missing in '{"kind":"Pod","apiVersion":"apps/"}'"#,
        ),
        (
            r#"{"kind":"Pod","apiVersion":"v2"}"#,
            r#"Pod in version "v2" cannot be handled as a Pod: no kind "Pod" is registered for version "v2" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
        ),
        (
            r#"{"KIND":"Service","apiversion":"v1"}"#,
            r#"Service in version "v1" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown conversion"#,
        ),
        (
            r#"{"kind":"PodList","apiVersion":"v1"}"#,
            r#"PodList in version "v1" cannot be handled as a Pod: converting (v1.PodList) to (core.Pod): unknown conversion"#,
        ),
    ] {
        assert_eq!(message("Pod", body, FieldValidation::Warn), wanted);
    }
    let scaler =
        of("autoscaling/v2", "HorizontalPodAutoscaler", "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler");
    let body = br#"{"kind":"HorizontalPodAutoscaler","apiVersion":"autoscaling/v1"}"#;
    assert_eq!(
        object(body, Media::Json, &scaler, FieldValidation::Warn).unwrap_err().message,
        "the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)"
    );
}

#[test]
fn wrong_types() {
    let go = "json: cannot unmarshal";
    for (kind, body, cause) in [
        (
            "Pod",
            r#"{"metadata":[]}"#,
            format!("{go} array into Go struct field Pod.metadata of type v1.ObjectMeta"),
        ),
        (
            "Pod",
            r#"{"spec":{"containers":"x"}}"#,
            format!("{go} string into Go struct field PodSpec.spec.containers of type []v1.Container"),
        ),
        (
            "Pod",
            r#"{"spec":{"containers":[{"name":1}],"restartPolicy":2},"metadata":{"name":3}}"#,
            format!("{go} number into Go struct field Container.spec.containers.name of type string"),
        ),
        (
            "Pod",
            r#"{"spec":{"volumes":[{"hostPath":{"path":1}}]}}"#,
            format!(
                "{go} number into Go struct field HostPathVolumeSource.spec.volumes.VolumeSource.hostPath.path of type string"
            ),
        ),
        (
            "Pod",
            r#"{"spec":{"restartPolicy":1}}"#,
            format!("{go} number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy"),
        ),
        (
            "Pod",
            r#"{"spec":{"terminationGracePeriodSeconds":3.0}}"#,
            format!(
                "{go} number 3.0 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64"
            ),
        ),
        (
            "Pod",
            r#"{"spec":{"priority":3000000000}}"#,
            format!("{go} number 3000000000 into Go struct field PodSpec.spec.priority of type int32"),
        ),
        (
            "Pod",
            r#"{"spec":{"nodeSelector":{"a":1}}}"#,
            format!("{go} number into Go struct field PodSpec.spec.nodeSelector of type string"),
        ),
        (
            "Pod",
            r#"{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":1.5}}}]}}"#,
            format!(
                "{go} number 1.5 into Go struct field HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32"
            ),
        ),
        (
            "Pod",
            r#"{"spec":{"containers":[{"resources":{"limits":[]}}]}}"#,
            format!(
                "{go} array into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList"
            ),
        ),
        // A value that decodes itself ends the decoding: it is told before the first mismatch.
        (
            "Pod",
            r#"{"spec":{"restartPolicy":1,"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                .to_owned(),
        ),
        (
            "Secret",
            r#"{"data":{"a":1}}"#,
            format!("{go} number into Go struct field Secret.data of type []uint8"),
        ),
        (
            "Secret",
            r#"{"data":[]}"#,
            format!("{go} array into Go struct field Secret.data of type map[string][]uint8"),
        ),
        ("Secret", r#"{"data":{"a":"!!"}}"#, "illegal base64 data at input byte 0".to_owned()),
        (
            "Deployment",
            r#"{"spec":{"replicas":"three"}}"#,
            format!("{go} string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        ),
        (
            "CustomResourceDefinition",
            r#"{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"items":{"type":1}}}}]}}"#,
            format!(
                "{go} number into Go struct field JSONSchemaProps.spec.versions.schema.openAPIV3Schema.items.type of type string"
            ),
        ),
        (
            "CustomResourceDefinition",
            r#"{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"additionalProperties":1}}}]}}"#,
            "boolean or JSON schema expected".to_owned(),
        ),
    ] {
        let version = expected(kind).api_version.rsplit('/').next().unwrap().to_owned();
        let wanted = format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {cause}");
        assert_eq!(message(kind, body, FieldValidation::Warn), wanted);
    }
}

#[test]
fn unknown_and_duplicate_fields() {
    let body = r#"{"metadata":{"name":"x","name":"y","labels":{"a":"1","a":"2"}},"spec":{"contaners":[],"containers":[{"foo":1}]},"Spec":1}"#;
    let told = [
        r#"duplicate field "metadata.name""#,
        r#"duplicate field "metadata.labels.a""#,
        r#"unknown field "spec.contaners""#,
        r#"unknown field "spec.containers[0].foo""#,
        r#"unknown field "Spec""#,
    ];
    let wanted = format!(
        r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: {}"#,
        told.join(", ")
    );
    assert_eq!(message("Pod", body, FieldValidation::Strict), wanted);

    let decoded = |validation| object(body.as_bytes(), Media::Json, &expected("Pod"), validation).unwrap();
    assert_eq!(decoded(FieldValidation::Warn).warnings, told);
    let ignored = decoded(FieldValidation::Ignore);
    assert_eq!(ignored.warnings, [""; 0]);
    assert_eq!(ignored.object.name(), "y");
    assert_eq!(ignored.object.at(&["metadata", "labels"]), Some(&json!({"a": "2"})));
}

#[test]
fn a_hundred_unknown_fields_are_told() {
    let fields: Vec<String> = (0..200).map(|at| format!("\"f{at}\":1")).collect();
    let body = format!("{{{}}}", fields.join(","));
    let decoded = object(body.as_bytes(), Media::Json, &expected("Pod"), FieldValidation::Warn).unwrap();
    assert_eq!(decoded.warnings.len(), 100);
}

#[test]
fn zero_values_vanish_or_appear() {
    let body = json!({
        "metadata": {"name": "x", "labels": {}, "creationTimestamp": null, "generation": 0},
        "spec": {
            "nodeSelector": {"a": null}, "hostNetwork": false, "activeDeadlineSeconds": 0, "tolerations": [],
            "containers": [
                {"name": "c", "args": [null], "ports": [{"hostPort": 0}], "resources": {"limits": {"cpu": 1.50}}}, null,
            ],
        },
    });
    let decoded =
        object(body.to_string().as_bytes(), Media::Json, &expected("Pod"), FieldValidation::Strict).unwrap();
    let wanted = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
        "spec": {
            "nodeSelector": {"a": ""}, "activeDeadlineSeconds": 0,
            "containers": [
                {
                    "name": "c", "args": [""], "ports": [{"containerPort": 0}],
                    "resources": {"limits": {"cpu": "1500m"}},
                },
                {"name": "", "resources": {}},
            ],
        },
        "status": {},
    });
    assert_eq!(decoded.object.into_value(), wanted);
}

#[test]
fn an_empty_list_that_is_always_there_is_null() {
    let role = of("rbac.authorization.k8s.io/v1", "Role", "io.k8s.api.rbac.v1.Role");
    let body = br#"{"metadata":{"name":"x"},"rules":[]}"#;
    let decoded = object(body, Media::Json, &role, FieldValidation::Strict).unwrap();
    assert_eq!(decoded.object.at(&["rules"]), Some(&Value::Null));
}

#[test]
fn a_custom_resource_is_taken_as_it_is() {
    let arena = Arena { nodes: vec![Node::default()] };
    let foo = Expected { api_version: "x.io/v1", kind: "Foo", schema: arena.schema(0) };
    let read = |body: &str| object(body.as_bytes(), Media::Json, &foo, FieldValidation::Warn);
    let decoded = read(
        r#"{"apiVersion":"x.io/v1","kind":"Foo","metadata":{"name":"a","foo":1,"labels":null},"spec":{"n":null,"n":1e2}}"#,
    )
    .unwrap();
    assert_eq!(
        decoded.object.into_value(),
        json!({"apiVersion": "x.io/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"n": 100}})
    );
    assert_eq!(decoded.warnings, [r#"duplicate field "spec.n""#, r#"unknown field "metadata.foo""#]);
    for (body, code, wanted) in [
        (
            "{}",
            400,
            "the object provided is unrecognized (must be of type Foo): Object 'Kind' is missing in '{}' ({})",
        ),
        (
            r#"{"kind":"Foo"}"#,
            400,
            "the API version in the data () does not match the expected API version (x.io/v1)",
        ),
        (
            r#"{"kind":"Bar","apiVersion":"x.io/v1"}"#,
            422,
            r#"Bar.x.io "" is invalid: kind: Invalid value: "Bar": must be Foo"#,
        ),
        (
            r#"{"kind":"Foo","apiVersion":"x.io/v1","metadata":{"name":1}}"#,
            400,
            r#"Foo in version "v1" cannot be handled as a Foo: json: cannot unmarshal number into Go struct field ObjectMeta.name of type string"#,
        ),
    ] {
        let status = read(body).unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (code, wanted));
    }
}

#[test]
fn what_is_told_is_no_larger_for_long_keys() {
    let long = "k".repeat(1 << 20);
    let twice: Vec<String> = (0..200).map(|index| format!(r#""a{index}":1,"a{index}":1"#)).collect();
    let below = format!(r#"{{"{long}":{{{}}}}}"#, twice.join(","));
    let (_, told) = patch(below.as_bytes(), Media::Json, FieldValidation::Strict).unwrap();
    // They are the same as far as they are told.
    assert_eq!(told.iter().map(String::len).collect::<Vec<_>>(), [1024 + "duplicate field ".len() + 2]);
    let above = format!(r#"{{{},"{long}":1,"{long}":1}}"#, twice.join(","));
    let (_, told) = patch(above.as_bytes(), Media::Json, FieldValidation::Warn).unwrap();
    assert_eq!((told.len(), told[99].as_str()), (100, r#"duplicate field "a99""#));
    let (_, told) = patch(above.as_bytes(), Media::Json, FieldValidation::Ignore).unwrap();
    assert_eq!(told, [""; 0]);

    let yaml = format!("{{{long}: 1, {long}: 1, {}}}", "a, ".repeat(1000));
    let (_, told) = patch(yaml.as_bytes(), Media::Yaml, FieldValidation::Strict).unwrap();
    assert_eq!((told.len(), told[99].as_str()), (100, r#"line 1: key "a" already set in map"#));
    assert_eq!(told[0].len(), 1024 + r#"line 1: key "" already set in map"#.len());

    let unknown = json!([{"op": "add", "path": "/a", "value": 1, long: 1}]);
    let told = crate::merge::json_patch::unknown_fields(&unknown);
    assert_eq!(told[0].len(), 1024 + r#"json patch unknown field "[0].""#.len());
    let unknown = Value::Array(vec![json!({"no": 1}); 200]);
    assert_eq!(crate::merge::json_patch::unknown_fields(&unknown).len(), 100);
}

#[test]
fn yaml_bodies() {
    let read =
        |body: &str, validation| object(body.as_bytes(), Media::Yaml, &expected("ConfigMap"), validation);
    let twice = "metadata:\n  name: x\n  name: z\ndata:\n  a: b\n  a: c\nfoo: 1\n";
    assert_eq!(
        read(twice, FieldValidation::Strict).unwrap_err().message,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal errors:\n  \
         line 3: key \"name\" already set in map\n  line 6: key \"a\" already set in map, unknown field \"foo\""
    );
    let decoded = read(twice, FieldValidation::Warn).unwrap();
    assert_eq!(decoded.object.name(), "z");
    assert_eq!(decoded.warnings.len(), 3);
    assert_eq!(
        read("data:\n  a: yes\n", FieldValidation::Warn).unwrap_err().message,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal bool into Go struct field \
         ConfigMap.data of type string"
    );
    assert_eq!(
        read("a", FieldValidation::Warn).unwrap_err().message.split(" into ").next(),
        Some(
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
             error: json: cannot unmarshal string"
        )
    );
}

#[test]
fn deep_bodies_are_refused() {
    let body = format!("{}{}", "{\"metadata\":".repeat(100_000), "[".repeat(100_000));
    assert!(message("Pod", &body, FieldValidation::Warn).contains("exceeded max depth"));
    assert_eq!(value("[".repeat(100_000).as_bytes(), Media::Json).unwrap_err().message, "exceeded max depth");
}

proptest! {
    #[test]
    fn what_was_read_once_reads_the_same_again(
        name in "[a-z]{0,5}",
        replicas in proptest::option::of(any::<i32>()),
        cpu in 0_u32..100_000,
        labels in proptest::collection::btree_map("[a-z/.]{1,8}", "\\PC{0,8}", 0..4),
    ) {
        let body = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": replicas,
                "template": {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": format!("{cpu}m")}}}]}},
            },
        });
        let read = |body: &Value| {
            object(body.to_string().as_bytes(), Media::Json, &expected("Deployment"), FieldValidation::Strict).unwrap().object
        };
        let once = read(&body);
        prop_assert_eq!(read(&once.clone().into_value()), once.clone());
        let mut conformed = once.clone();
        prop_assert_eq!(conform(&mut conformed, &expected("Deployment"), FieldValidation::Strict).unwrap(), [""; 0]);
        prop_assert_eq!(conformed, once);
    }

    #[test]
    fn any_text_is_read_as_serde_json_reads_it(text in r#"[\[\]{}",:0-9a-ez.+\\-]{0,24}"#) {
        let ours = value(text.as_bytes(), Media::Json).ok();
        match serde_json::from_str::<Value>(&text) {
            // Numbers without a fraction are told as integers, which know no -0; numbers that no f64 holds are not told.
            Ok(theirs) => {
                let told = |value: Value| value.to_string().replace(".0", "").replace("-0", "0");
                prop_assert_eq!(ours.map(told), Some(told(theirs)));
            }
            Err(cause) if cause.to_string().contains("out of range") => {}
            Err(_) => prop_assert_eq!(ours, None),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        for media in [Media::Json, Media::Yaml] {
            let _ = value(&bytes, media);
            let _ = object(&bytes, media, &expected("Pod"), FieldValidation::Strict);
        }
    }
}
