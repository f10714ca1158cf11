use super::*;

fn varint(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
    out
}

/// A field that holds bytes.
fn held(number: usize, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len()), bytes.to_vec()].concat()
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let kind = [held(1, api_version.as_bytes()), held(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), held(1, &kind), held(2, raw), held(3, b""), held(4, b"")].concat()
}

#[test]
fn a_config_map_of_kubectl_is_read() {
    // What `kubectl create configmap` sends: every field that is no pointer, set or not.
    let metadata = [held(1, b"a"), held(2, b""), held(3, b"default"), held(8, b"")].concat();
    let entry = [held(1, b"x"), held(2, b"y")].concat();
    let empty = held(1, b"empty");
    let raw = [
        held(1, &metadata),
        held(2, &entry),
        held(2, &empty),
        held(3, &[held(1, b"b"), held(2, &[0, 255])].concat()),
    ];
    let read = to_json(&body("v1", "ConfigMap", &raw.concat())).unwrap();
    let expected = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "default"},
        "data": {"x": "y", "empty": ""},
        "binaryData": {"b": "AP8="},
    });
    assert_eq!(read, expected);
}

#[test]
fn what_is_inlined_is_read_into_the_object_around_it() {
    // spec.volumes[0]: its name, and in field 2 the source, whose field 2 is an emptyDir.
    let volume = [held(1, b"v"), held(2, &held(2, &held(1, b"Memory")))].concat();
    let read = to_json(&body("v1", "Pod", &held(2, &held(1, &volume)))).unwrap();
    assert_eq!(read["spec"]["volumes"], json!([{"name": "v", "emptyDir": {"medium": "Memory"}}]));
}

#[test]
fn quantities_and_ports_are_read() {
    let limit = [held(1, b"cpu"), held(2, &held(1, b"100m"))].concat();
    // An httpGet probe with a port by name: inlined handler (1), httpGet (2), port (2) of type string (1).
    let port = [vec![0x08, 1, 0x10, 0], held(3, b"web")].concat();
    let probe = held(1, &held(2, &held(2, &port)));
    let container = [held(1, b"c"), held(8, &held(1, &limit)), held(10, &probe)].concat();
    let read = to_json(&body("v1", "Pod", &held(2, &held(2, &container)))).unwrap();
    let container = &read["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"]["cpu"], "100m");
    assert_eq!(container["livenessProbe"]["httpGet"]["port"], "web");
}

#[test]
fn the_schemas_of_a_definition_are_read_whole() {
    let of_type = |of: &[u8]| held(5, of);
    let property = |name: &[u8], schema: &[u8]| held(29, &[held(1, name), held(2, schema)].concat());
    let list = [of_type(b"array"), held(24, &held(1, &of_type(b"string"))), held(42, b"set")].concat();
    let map = [of_type(b"object"), held(30, &held(2, &of_type(b"integer")))].concat();
    let rule = held(44, &[held(1, b"true"), held(2, b"no")].concat());
    let default = [of_type(b"string"), held(8, &held(1, b"\"x\"")), held(20, &held(1, b"\"y\""))].concat();
    let open = [of_type(b"object"), held(30, &[0x08, 1]), vec![0xb0, 0x02, 1]].concat();
    let schema = [
        of_type(b"object"),
        property(b"list", &list),
        property(b"map", &map),
        property(b"open", &open),
        property(b"text", &default),
        rule,
    ];
    let validation = held(1, &schema.concat());
    let version = [held(1, b"v1"), held(4, &validation)].concat();
    let read =
        to_json(&body("apiextensions.k8s.io/v1", "CustomResourceDefinition", &held(2, &held(7, &version))));
    let expected = json!({
        "type": "object",
        "x-kubernetes-validations": [{"rule": "true", "message": "no"}],
        "properties": {
            "list": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
            "open": {"type": "object", "additionalProperties": true, "x-kubernetes-preserve-unknown-fields": true},
            "text": {"type": "string", "default": "x", "enum": ["y"]},
        },
    });
    assert_eq!(read.unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"], expected);
}

#[test]
fn what_is_malformed_is_refused() {
    let good = body("v1", "ConfigMap", &held(1, &held(1, b"a")));
    for cut in 0..good.len() {
        let _ = to_json(&good[..cut]);
    }
    assert_eq!(to_json(b"{}").unwrap_err().code, 400);
    assert_eq!(to_json(&body("v1", "Nothing", b"")).unwrap_err().code, 400);
    assert_eq!(to_json(&body("v1", "ConfigMap", &[0x0a, 0xff, 0xff])).unwrap_err().code, 400);
    assert_eq!(to_json(&body("v1", "ConfigMap", &held(1, &held(1, &[0xff])))).unwrap_err().code, 400);
}

#[test]
fn durations_are_written_as_go_reads_them() {
    assert_eq!(duration(30_000_000_000), "30s");
    assert_eq!(duration(1_500_000_000), "1.5s");
    assert_eq!(duration(-500_000_000), "-0.5s");
}

#[test]
fn names_are_those_of_json_whatever_the_protocol_calls_them() {
    let variable = [held(1, b"v"), held(2, b"1")].concat();
    let validation = [held(1, b"true"), held(2, b"said")].concat();
    let spec = [held(3, &validation), held(7, &variable)].concat();
    let group = "admissionregistration.k8s.io/v1";
    let read = to_json(&body(group, "ValidatingAdmissionPolicy", &held(2, &spec))).unwrap();
    assert_eq!(read["spec"]["validations"], json!([{"expression": "true", "message": "said"}]));
    assert_eq!(read["spec"]["variables"], json!([{"name": "v", "expression": "1"}]));
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        let read = to_json(&body(group, kind, &held(2, &held(1, b"w.example.com")))).unwrap();
        assert_eq!(read["webhooks"][0]["name"], "w.example.com", "{kind}");
    }
}

#[test]
fn times_before_1970_are_times_and_the_zero_of_go_is_none() {
    let lease = |seconds: i64| {
        let bytes = varint(usize::try_from(seconds.cast_unsigned()).unwrap());
        let time = [vec![0x08], bytes].concat();
        let read = to_json(&body("coordination.k8s.io/v1", "Lease", &held(2, &held(3, &time)))).unwrap();
        read["spec"]["acquireTime"].clone()
    };
    assert_eq!(lease(-62_135_596_798), "0001-01-01T00:00:02.000000Z");
    assert_eq!(lease(1), "1970-01-01T00:00:01.000000Z");
    assert_eq!((lease(-62_135_596_800), lease(0)), (Value::Null, Value::Null));
}
