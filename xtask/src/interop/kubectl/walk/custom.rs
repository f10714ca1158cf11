//! Definitions of custom resources, and what they define.

use super::step::{Step, fails, ok};

pub(crate) const STEPS: &[Step] = &[
    fails("printf 'apiVersion: apiextensions.k8s.io/v1\\nkind: CustomResourceDefinition\\nmetadata: {name: x.y.io}\\nspec: {group: y.io, scope: Sometimes, names: {plural: x, kind: X}, versions: []}\\n' | kubectl create -f -", 1, &["*is invalid:*", "* spec.scope: Unsupported value: \"Sometimes\": supported values: *"]),
    ok("kubectl create -f crd.yaml", &["customresourcedefinition.apiextensions.k8s.io/widgets.walk.example.com created", "*/gadgets.walk.example.com created"]),
    ok("kubectl wait --for=condition=Established crd/widgets.walk.example.com crd/gadgets.walk.example.com --timeout=240s", &["*/widgets.walk.example.com condition met", "*/gadgets.walk.example.com condition met"]),
    ok("until kubectl get --raw /openapi/v2 | grep -q com.example.walk.v1.Widget && kubectl api-resources --api-group=walk.example.com | grep -q gadgets; do sleep 0.2; done; kubectl api-resources --api-group=walk.example.com -o wide", &["gadgets walk.example.com/v1 false Gadget *", "widgets wd walk.example.com/v1 true Widget *"]).since(21),
    ok("until kubectl get --raw /openapi/v2 | grep -q com.example.walk.v1.Widget; do sleep 0.2; done; kubectl api-resources --api-group=walk.example.com -o name", &["widgets.walk.example.com"]).until(20),
    ok("kubectl apply -f widget.yaml", &["widget.walk.example.com/w1 created"]),
    ok("kubectl apply -f widget.yaml", &["widget.walk.example.com/w1 unchanged"]),
    ok("kubectl get wd", &["NAME COLOR REPLICAS SINCE", "w1 red 1 *"]),
    ok("kubectl get wd -o wide", &["NAME COLOR REPLICAS WIDE SINCE", "w1 red 1 hello *"]),
    ok("kubectl get walk -o name", &["widget.walk.example.com/w1"]),
    ok("kubectl get widgets.v1beta1.walk.example.com w1 -o jsonpath='{.apiVersion} {.spec.color}'", &["walk.example.com/v1beta1 red"]),
    ok("kubectl explain widgets.spec", &["KIND: Widget", "What it should be.", "color <string> *required*", "parts <*>"]),
    ok("kubectl describe wd w1", &["Name: w1", "Kind: Widget", "Color: red"]),
    // What a schema refuses.
    fails("sed 's/red/pink/' widget.yaml | kubectl apply -f -", 1, &["*spec.color: Unsupported value: \"pink\": supported values: \"red\", \"green\", \"blue\""]),
    fails("sed 's/size: 5/replicas: 50, when: yesterday/' widget.yaml | kubectl apply -f -", 1, &["* spec.replicas: Invalid value: *: spec.replicas in body should be less than or equal to 10"]),
    fails("sed 's/color: red/color: blue/' widget.yaml | kubectl apply -f -", 1, &["*spec: Invalid value: *blue ones need company"]),
    fails("sed 's/hello/changed/' widget.yaml | kubectl apply -f -", 1, &["*spec.note: Invalid value: *note stays"]),
    fails("sed 's/tags: \\[x\\]/tags: [x, x]/' widget.yaml | kubectl apply -f -", 1, &["*spec.tags[1]: Duplicate value: \"x\""]),
    fails("sed 's/size: 5/sizes: 5/' widget.yaml | kubectl apply -f -", 1, &["*unknown field \"*sizes\"*"]),
    ok("sed 's/size: 5/sizes: 5/' widget.yaml | kubectl apply --validate=false -f - && kubectl get wd w1 -o jsonpath='{.spec.sizes}{.spec.color}'", &["widget.walk.example.com/w1 configured", "red"]),
    // Lists with keys are merged by the server.
    ok("kubectl apply --server-side --force-conflicts -f widget.yaml", &["widget.walk.example.com/w1 serverside-applied"]),
    ok("sed 's/parts: .*/parts: [{name: b, value: 2}]}/; s/spec: .*color: red,/spec: {color: red,/; s/note: hello, size: 5,//' widget.yaml | kubectl apply --server-side --field-manager=two -f - && kubectl get wd w1 -o jsonpath='{.spec.parts[*].name}'", &["widget.walk.example.com/w1 serverside-applied", "a b"]),
    fails("kubectl patch wd w1 -p '{\"spec\":{\"color\":\"green\"}}'", 1, &["*the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml*"]),
    ok("kubectl patch wd w1 --type=merge -p '{\"spec\":{\"color\":\"green\"},\"status\":{\"replicas\":3}}' && kubectl get wd w1 -o jsonpath='{.spec.color}{.status}'", &["widget.walk.example.com/w1 patched", "green"]),
    ok("kubectl patch wd w1 --subresource=status --type=merge -p '{\"status\":{\"replicas\":3,\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}' -o jsonpath='{.status.replicas}'", &["3"]).since(24),
    ok("kubectl wait --for=condition=Ready wd/w1 --timeout=240s", &["widget.walk.example.com/w1 condition met"]).since(24),
    ok("kubectl scale wd w1 --replicas=4", &["widget.walk.example.com/w1 scaled"]),
    fails("kubectl scale wd w1 --replicas=40", 1, &["*spec.replicas*should be less than or equal to 10"]),
    ok("kubectl get wd --field-selector spec.color=green -o name", &["widget.walk.example.com/w1"]),
    ok("kubectl get wd --field-selector spec.color=red -o name", &[]),
    ok("SED='s/color: .*/color: red/' kubectl edit wd w1", &["widget.walk.example.com/w1 edited"]),
    ok("printf 'apiVersion: walk.example.com/v1\\nkind: Gadget\\nmetadata: {name: g1}\\nanything: {a: [1, 2.5, \"x\"]}\\n' | kubectl apply --validate=false -f -", &["gadget.walk.example.com/g1 created"]),
    ok("kubectl get gadget g1 -o jsonpath='{.anything}'", &["{\"a\":[1,2.5,\"x\"]}"]),
    fails("kubectl patch crd widgets.walk.example.com --type=merge -p '{\"spec\":{\"scope\":\"Cluster\"}}'", 1, &["*spec.scope: Invalid value: \"Cluster\": field is immutable*"]),
    // The objects go with their definition, which waits for what holds them.
    ok("kubectl delete crd gadgets.walk.example.com --timeout=240s", &["*\"gadgets.walk.example.com\" deleted"]),
    fails("kubectl get gadgets", 1, &["*rror*gadgets*"]),
    ok("kubectl patch wd w1 --type=merge -p '{\"metadata\":{\"finalizers\":[\"a.io/b\"]}}' && kubectl delete crd widgets.walk.example.com --wait=false && kubectl get crd widgets.walk.example.com -o jsonpath='{.metadata.finalizers}'", &["widget.walk.example.com/w1 patched", "[\"customresourcecleanup.apiextensions.k8s.io\"]"]),
    // Of what has gone before it is asked for, kubectl says nothing.
    fails("kubectl patch wd w1 --type=merge -p '{\"metadata\":{\"finalizers\":null}}' && kubectl wait --for=delete crd/widgets.walk.example.com --timeout=240s; kubectl get crd widgets.walk.example.com", 1, &["widget.walk.example.com/w1 patched*", "*\"widgets.walk.example.com\" not found"]).since(24),
];
