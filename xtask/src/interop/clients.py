"""The official Python client against `sextant api`: one function a part, in order; the first that fails ends it.

    clients.py KUBECONFIG
"""
import json, os, sys, tempfile, threading, time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

NS = "default"


def refused(status, reason, call, *args, **more):
    """The call is refused so; the answer's Status."""
    try:
        answer = call(*args, **more)
    except ApiException as e:
        body = json.loads(e.body)
        assert (e.status, body["reason"]) == (status, reason), (e.status, body)
        return body
    raise AssertionError(f"not refused: {answer}")


def certificate(api):
    """The administrator's certificate, over TLS that is verified."""
    assert api.configuration.verify_ssl and api.configuration.cert_file and not api.configuration.api_key
    version = client.VersionApi(api).get_code()
    assert (version.major, version.minor) == ("1", "36"), version
    review = client.AuthenticationV1Api(api).create_self_subject_review({"kind": "SelfSubjectReview"})
    assert "system:masters" in review.status.user_info.groups, review
    assert "apps" in [group.name for group in client.ApisApi(api).get_api_versions().groups]


def lists(api):
    core = client.CoreV1Api(api)
    for i in range(7):
        core.create_namespaced_config_map(NS, {"metadata": {"name": f"l{i}", "labels": {"odd": str(i % 2)}}, "data": {"i": str(i)}})
    seen, more, rounds = [], None, 0
    while more != "":
        page = core.list_namespaced_config_map(NS, limit=2, label_selector="odd", _continue=more)
        seen += [item.metadata.name for item in page.items]
        more, rounds = page.metadata._continue or "", rounds + 1
        if more:
            assert len(page.items) == 2 and page.metadata.remaining_item_count is None, page.metadata
    assert (seen, rounds) == ([f"l{i}" for i in range(7)], 4), (seen, rounds)
    odd = core.list_namespaced_config_map(NS, label_selector="odd in (1)").items
    assert [item.data["i"] for item in odd] == ["1", "3", "5"], odd
    one = core.list_config_map_for_all_namespaces(field_selector="metadata.name=l3").items
    assert len(one) == 1 and one[0].metadata.uid, one
    refused(404, "NotFound", core.read_namespaced_config_map, "none", NS)
    refused(409, "AlreadyExists", core.create_namespaced_config_map, NS, {"metadata": {"name": "l1"}})
    body = refused(422, "Invalid", core.create_namespaced_config_map, NS, {"metadata": {"name": "L_1"}})
    assert body["details"]["causes"][0]["field"] == "metadata.name", body
    core.delete_collection_namespaced_config_map(NS, label_selector="odd=0")
    assert {item.metadata.name for item in core.list_namespaced_config_map(NS, label_selector="odd").items} == {"l1", "l3", "l5"}


def watches(api):
    """Events in order; bookmarks; what is too old is told with 410, and a watch from a new list goes on."""
    core = client.CoreV1Api(api)
    start = core.list_namespaced_config_map(NS).metadata.resource_version

    def change():
        core.create_namespaced_config_map(NS, {"metadata": {"name": "w", "labels": {"w": "1"}}})
        core.patch_namespaced_config_map("w", NS, {"data": {"a": "b"}})
        core.delete_namespaced_config_map("w", NS)

    threading.Thread(target=change).start()
    stream, seen = watch.Watch(), []
    for event in stream.stream(core.list_namespaced_config_map, NS, resource_version=start, label_selector="w=1", timeout_seconds=240):
        seen.append((event["type"], event["object"].metadata.name, event["object"].data))
        if event["type"] == "DELETED":
            stream.stop()
    assert seen == [("ADDED", "w", None), ("MODIFIED", "w", {"a": "b"}), ("DELETED", "w", {"a": "b"})], seen
    # From what is there, with a bookmark behind it, and from that bookmark on.
    raw, mark = watch.Watch(), None
    more = dict(send_initial_events=True, resource_version_match="NotOlderThan", allow_watch_bookmarks=True)
    added = []
    for event in raw.stream(core.list_namespaced_config_map, NS, timeout_seconds=240, **more):
        if event["type"] == "BOOKMARK":
            meta = event["raw_object"]["metadata"]
            assert meta["annotations"] == {"k8s.io/initial-events-end": "true"}, meta
            mark = meta["resourceVersion"]
            raw.stop()
        else:
            added.append(event["object"].metadata.name)
    assert mark and {"l1", "l3", "l5"} <= set(added), (mark, added)
    core.patch_namespaced_config_map("l1", NS, {"data": {"later": "1"}})
    again = watch.Watch()
    for event in again.stream(core.list_namespaced_config_map, NS, resource_version=mark, timeout_seconds=240):
        assert (event["type"], event["object"].metadata.name) == ("MODIFIED", "l1"), event
        again.stop()


def resumes(api):
    """A place that history no longer has is told with 410; a watch from a new list goes on."""
    core = client.CoreV1Api(api)
    first = core.list_namespaced_config_map(NS).metadata.resource_version
    # The server keeps 64 MiB of what was.
    core.create_namespaced_config_map(NS, {"metadata": {"name": "big"}})
    for i in range(80):
        core.patch_namespaced_config_map("big", NS, {"data": {"text": f"{i:05}" * 200_000}})
    core.delete_namespaced_config_map("big", NS)
    try:
        for event in watch.Watch().stream(core.list_namespaced_config_map, NS, resource_version=first, timeout_seconds=60):
            raise AssertionError(f"too old, and told: {event['type']}")
        raise AssertionError("too old, and nothing told")
    except ApiException as e:
        assert e.status == 410, e
    fresh, again = core.list_namespaced_config_map(NS).metadata.resource_version, watch.Watch()
    core.patch_namespaced_config_map("l3", NS, {"data": {"again": "1"}})
    for event in again.stream(core.list_namespaced_config_map, NS, resource_version=fresh, timeout_seconds=240):
        assert (event["type"], event["object"].data["again"]) == ("MODIFIED", "1"), event
        again.stop()
    refused(410, "Expired", core.list_namespaced_config_map, NS, resource_version=first, resource_version_match="Exact")


def patches(api):
    apps = client.AppsV1Api(api)
    container = client.V1Container(name="c", image="nginx", ports=[client.V1ContainerPort(container_port=80)])
    template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels={"a": "b"}), spec=client.V1PodSpec(containers=[container]))
    spec = client.V1DeploymentSpec(replicas=2, selector=client.V1LabelSelector(match_labels={"a": "b"}), template=template)
    made = apps.create_namespaced_deployment(NS, client.V1Deployment(metadata=client.V1ObjectMeta(name="d"), spec=spec))
    assert made.spec.strategy.rolling_update.max_surge == "25%" and made.metadata.generation == 1
    # A dictionary goes as a strategic merge patch: the second container beside the first.
    more = {"spec": {"template": {"spec": {"containers": [{"name": "e", "image": "x"}]}}}}
    names = lambda d: sorted(c.name for c in d.spec.template.spec.containers)
    assert names(apps.patch_namespaced_deployment("d", NS, more)) == ["c", "e"]
    # A list goes as a JSON patch.
    back = [{"op": "test", "path": "/metadata/name", "value": "d"}, {"op": "replace", "path": "/spec/replicas", "value": 5}]
    assert apps.patch_namespaced_deployment("d", NS, back).spec.replicas == 5
    refused(422, "Invalid", apps.patch_namespaced_deployment, "d", NS, [{"op": "test", "path": "/metadata/name", "value": "x"}])
    scale = apps.patch_namespaced_deployment_scale("d", NS, {"spec": {"replicas": 3}})
    assert (scale.spec.replicas, scale.status.selector) == (3, "a=b"), scale
    old = apps.read_namespaced_deployment("d", NS)
    apps.patch_namespaced_deployment("d", NS, {"metadata": {"labels": {"x": "y"}}})
    refused(409, "Conflict", apps.replace_namespaced_deployment, "d", NS, old)
    status = apps.patch_namespaced_deployment_status("d", NS, {"status": {"replicas": 3, "readyReplicas": 1}, "spec": {"replicas": 9}})
    assert (status.spec.replicas, status.status.ready_replicas) == (3, 1), status
    dry = apps.patch_namespaced_deployment("d", NS, {"spec": {"replicas": 8}}, dry_run="All")
    assert dry.spec.replicas == 8 and apps.read_namespaced_deployment("d", NS).spec.replicas == 3
    only = lambda uid: client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=uid))
    refused(409, "Conflict", apps.delete_namespaced_deployment, "d", NS, body=only("another"))
    apps.delete_namespaced_deployment("d", NS, body=only(old.metadata.uid))
    refused(404, "NotFound", apps.read_namespaced_deployment, "d", NS)


def dynamics(api):
    """The dynamic client: discovery, a definition, server-side apply, conflicts, a watch."""
    with tempfile.TemporaryDirectory() as cache:
        dyn = dynamic.DynamicClient(api, cache_file=os.path.join(cache, "discovery"))
        props = {"spec": {"type": "object", "required": ["size"], "properties": {"size": {"type": "integer", "maximum": 9}}}}
        version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                   "schema": {"openAPIV3Schema": {"type": "object", "properties": props}}}
        names = {"plural": "boxes", "singular": "box", "kind": "Box"}
        crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "boxes.py.example.com"},
               "spec": {"group": "py.example.com", "scope": "Namespaced", "names": names, "versions": [version]}}
        crds = dyn.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
        crds.create(body=crd)
        for event in crds.watch(name="boxes.py.example.com", timeout=240):
            conditions = event["object"].to_dict().get("status", {}).get("conditions", [])
            if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
                break
        for _ in range(1800):
            try:
                dyn.resources.invalidate_cache()
                boxes = dyn.resources.get(api_version="py.example.com/v1", kind="Box")
                break
            except dynamic.exceptions.ResourceNotFoundError:
                time.sleep(0.1)
        box = lambda size: {"apiVersion": "py.example.com/v1", "kind": "Box", "metadata": {"name": "b"}, "spec": {"size": size}}
        made = boxes.server_side_apply(body=box(1), namespace=NS, field_manager="one")
        assert made.metadata.managedFields[0].operation == "Apply" and made.spec.size == 1
        try:
            boxes.server_side_apply(body=box(2), namespace=NS, field_manager="two")
            raise AssertionError("no conflict")
        except dynamic.exceptions.ConflictError as e:
            assert 'conflict with \\"one\\"' in e.summary() or 'conflict with "one"' in e.summary(), e.summary()
        assert boxes.server_side_apply(body=box(2), namespace=NS, field_manager="two", force_conflicts=True).spec.size == 2
        try:
            boxes.patch(body={"spec": {"size": 10}}, name="b", namespace=NS, content_type="application/merge-patch+json")
            raise AssertionError("too big is taken")
        except dynamic.exceptions.UnprocessibleEntityError as e:
            assert "should be less than or equal to 9" in e.summary(), e.summary()
        assert [item.metadata.name for item in boxes.get(namespace=NS).items] == ["b"]
        boxes.status.patch(body={"status": {}}, name="b", namespace=NS, content_type="application/merge-patch+json")
        custom = client.CustomObjectsApi(api)
        assert custom.get_namespaced_custom_object("py.example.com", "v1", NS, "boxes", "b")["spec"]["size"] == 2
        crds.delete(name="boxes.py.example.com")


def manifests(api):
    """Its `create_from_dict` of a list; what is there already is told."""
    listed = {"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "py"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "py"}, "spec": {"ports": [{"port": 80}]}}]}
    utils.create_from_dict(api, listed)
    core = client.CoreV1Api(api)
    assert core.read_namespaced_service("s", "py").spec.cluster_ip.startswith("10.")
    try:
        utils.create_from_dict(api, listed)
        raise AssertionError("made twice")
    except utils.FailToCreateError as e:
        assert [x.status for x in e.api_exceptions] == [409, 409], e
    core.delete_namespace("py")
    for _ in range(1800):
        try:
            core.read_namespace("py")
            time.sleep(0.1)
        except ApiException as e:
            assert e.status == 404
            return
    raise AssertionError("the namespace stays")


def token(api):
    """A service account's token in the place of the certificate: it may what its role says."""
    core, rbac = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
    core.create_namespaced_service_account(NS, {"metadata": {"name": "py"}})
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    rbac.create_namespaced_role(NS, {"metadata": {"name": "py"}, "rules": rules})
    subjects = [{"kind": "ServiceAccount", "name": "py", "namespace": NS}]
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "py"}
    rbac.create_namespaced_role_binding(NS, {"metadata": {"name": "py"}, "roleRef": ref, "subjects": subjects})
    made = core.create_namespaced_service_account_token("py", NS, client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600)))
    other = client.Configuration()
    other.host, other.ssl_ca_cert = api.configuration.host, api.configuration.ssl_ca_cert
    other.api_key = {"BearerToken": "Bearer " + made.status.token}
    with client.ApiClient(other) as api2:
        mine = client.CoreV1Api(api2)
        assert mine.list_namespaced_config_map(NS).items
        refused(403, "Forbidden", mine.list_namespaced_secret, NS)
        who = client.AuthenticationV1Api(api2).create_self_subject_review({"kind": "SelfSubjectReview"})
        assert who.status.user_info.username == "system:serviceaccount:default:py", who
    other.api_key = {"BearerToken": "Bearer nonsense"}
    with client.ApiClient(other) as api3:
        refused(401, "Unauthorized", client.CoreV1Api(api3).list_namespaced_config_map, NS)


def election(api):
    """Two candidates and one lease: one leads, and renews it in time."""
    client.Configuration.set_default(api.configuration)
    led = {name: threading.Event() for name in ("one", "two")}

    def run(name):
        def lead():
            led[name].set()
        lock = LeaseLock("py-lease", NS, name)
        chosen = electionconfig.Config(lock, lease_duration=15, renew_deadline=10, retry_period=2, onstarted_leading=lead, onstopped_leading=lambda: None)
        leaderelection.LeaderElection(chosen).run()

    threading.Thread(target=run, args=("one",), daemon=True).start()
    assert led["one"].wait(180)
    threading.Thread(target=run, args=("two",), daemon=True).start()
    lease = lambda: client.CoordinationV1Api(api).read_namespaced_lease("py-lease", NS).spec
    first = lease()
    while lease().renew_time == first.renew_time:
        time.sleep(0.2)
    assert lease().holder_identity == first.holder_identity == "one" and not led["two"].is_set(), lease()


def main():
    config.load_kube_config(sys.argv[1])
    api = client.ApiClient()
    parts = [certificate, lists, watches, resumes, patches, dynamics, manifests, token, election]
    for part in parts:
        print(part.__name__, flush=True)
        part(api)
    print(f"{len(parts)} parts went well", flush=True)
    # Candidates never end.
    os._exit(0)


main()
