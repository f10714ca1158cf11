"""A cloud provider in Python: the rack of docs/write-a-provider.md, by the same files.

    pip install grpcio-tools
    python3 rack.py SOCKET DIR PROTO        # PROTO is crates/cpi/proto
"""
import functools, ipaddress, json, os, pathlib, sys, threading
from concurrent import futures

import grpc

SOCKET, DIR, PROTO = map(pathlib.Path, sys.argv[1:4])
sys.path.append(str(PROTO))
cpi, services = grpc.protos_and_services("cpi/v1/cpi.proto")
# Who gives out an address must know what the others have given out.
TURN = threading.Lock()


class Gone(Exception):
    """There is no such machine, and that is known."""


def call(work):
    """What goes wrong is a status. Only what is known to be gone is NOT_FOUND: its node is deleted."""
    @functools.wraps(work)
    def answer(self, request, context):
        try:
            return work(self, request)
        except Gone as gone:
            context.abort(grpc.StatusCode.NOT_FOUND, str(gone))
        except (OSError, ValueError) as wrong:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(wrong))
    return answer


def machine(node):
    """What is known of a node's machine, and whether it is on. A file that is not whole says nothing of anybody."""
    node, text = json.loads(node), (DIR / "machines").read_text().rstrip()
    if not text.endswith("end"):
        raise ValueError("`machines` does not end with `end`")
    has, called = node.get("spec", {}).get("providerID"), node["metadata"]["name"]
    for line in text[:-3].splitlines():
        if len(line.split()) != 6:
            raise ValueError(f"`machines` has {line!r}; write NAME ID TYPE ROW ADDRESS on|off")
        name, number, kind, row, ip, state = line.split()
        if has == f"rack://{number}" or not has and called == name:
            address = cpi.NodeAddress(type="InternalIP", address=ip)
            known = cpi.Metadata(provider_id=f"rack://{number}", instance_type=kind, zone=row, addresses=[address])
            return known, state == "on"
    raise Gone(f"no machine is called {called}, or has id {has}")


def balancer(service):
    """The file of a service's load balancer, by which it is found again, and its address, if there is one."""
    file = DIR / "balancers" / json.loads(service)["metadata"]["uid"]
    return file, file.read_text().splitlines()[0] if file.exists() else None


def status(address):
    return json.dumps({"ingress": [{"ip": address}]}).encode()


def ensure(service, nodes):
    """Writes what the balancer is to do: its address, who may come, and for each port where it leads."""
    with TURN:
        (file, address), spec = balancer(service), json.loads(service)["spec"]
        meta = json.loads(service)["metadata"]
        if address is None:
            used = {other.read_text().splitlines()[0] for other in file.parent.iterdir()}
            left = [one for one in (DIR / "pool").read_text().split() if one not in used]
            if not left:
                raise ValueError(f"no address is left for {meta['name']}; add one to `pool`")
            address = left[0]
        said = meta.get("annotations", {}).get("service.beta.kubernetes.io/load-balancer-source-ranges")
        ranges = spec.get("loadBalancerSourceRanges") or (said or "0.0.0.0/0").split(",")
        lines = [address] + [f"allow {ipaddress.ip_network(one.strip(), strict=False)}" for one in ranges]
        if spec.get("externalTrafficPolicy") == "Local" and spec.get("healthCheckNodePort"):
            lines.append(f"check {spec['healthCheckNodePort']}/healthz")
        told = [one for node in nodes for one in json.loads(node).get("status", {}).get("addresses", [])]
        ips = " ".join(one["address"] for one in told if one["type"] == "InternalIP")
        for port in spec.get("ports", []):
            lines.append(f"{port['port']} {port.get('protocol', 'TCP')} -> {port.get('nodePort', 0)} of {ips}")
        # Whole, or not at all: what is there was made, whenever this process ends.
        (DIR / "new").write_text("\n".join(lines) + "\n")
        os.replace(DIR / "new", file)
        return address


class Provider(services.ProviderServicer):
    GetInfo = call(lambda _, request: cpi.GetInfoResponse(
        name="rack", has_cluster_id=True, instances=True, load_balancers=True))
    Initialize = call(lambda _, request: cpi.InitializeResponse())

    @call
    def GetState(self, request):
        is_whole = (DIR / "machines").read_text().rstrip().endswith("end")
        return cpi.GetStateResponse(trouble="" if is_whole else "`machines` does not end with `end`")


class Instances(services.InstancesServicer):
    InstanceExists = call(lambda _, request: cpi.InstanceExistsResponse(exists=bool(machine(request.node))))
    InstanceShutdown = call(lambda _, request: cpi.InstanceShutdownResponse(shutdown=not machine(request.node)[1]))
    InstanceMetadata = call(lambda _, request: cpi.InstanceMetadataResponse(metadata=machine(request.node)[0]))


class LoadBalancers(services.LoadBalancersServicer):
    @call
    def GetLoadBalancer(self, request):
        address = balancer(request.service)[1]
        return cpi.GetLoadBalancerResponse(status=status(address) if address else None)

    @call
    def EnsureLoadBalancer(self, request):
        return cpi.EnsureLoadBalancerResponse(status=status(ensure(request.service, request.nodes)))

    @call
    def UpdateLoadBalancer(self, request):
        ensure(request.service, request.nodes)
        return cpi.UpdateLoadBalancerResponse()

    @call
    def EnsureLoadBalancerDeleted(self, request):
        balancer(request.service)[0].unlink(missing_ok=True)
        return cpi.EnsureLoadBalancerDeletedResponse()


(DIR / "balancers").mkdir(exist_ok=True)
SOCKET.unlink(missing_ok=True)
server = grpc.server(futures.ThreadPoolExecutor(8))
services.add_ProviderServicer_to_server(Provider(), server)
services.add_InstancesServicer_to_server(Instances(), server)
services.add_LoadBalancersServicer_to_server(LoadBalancers(), server)
# Who may open the socket may ask for everything.
before = os.umask(0o177)
server.add_insecure_port(f"unix:{SOCKET}")
os.umask(before)
server.start()
print("rack: serves", file=sys.stderr, flush=True)
server.wait_for_termination()
