"""A pod through CRI, as a kubelet asks for one: pod.py SOCKET run NAME HOST_PORT CONTAINER_PORT | stop ID

The few messages are written by hand (protocol buffers: a key, a length, bytes), so that no generated code is needed.
`run` prints the pod's id and address. `stop` removes it.
"""

import sys

import grpc

SERVICE = "/runtime.v1.RuntimeService/"


def number(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def field(key, value):
    if isinstance(value, int):
        return number(key << 3) + number(value)
    value = value.encode() if isinstance(value, str) else value
    return number(key << 3 | 2) + number(len(value)) + value


def fields(message):
    """The parts of a message, by key; of repeated ones the last."""
    found, at = {}, 0

    def read():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = read()
        if key & 7 == 2:
            size = read()
            found[key >> 3] = message[at : at + size]
            at += size
        else:
            found[key >> 3] = read()
    return found


def main():
    socket, verb, *words = sys.argv[1:]
    with grpc.insecure_channel("unix:" + socket) as channel:

        def call(method, message):
            same = lambda message: message
            ask = channel.unary_unary(SERVICE + method, request_serializer=same, response_deserializer=same)
            return fields(ask(message, timeout=240, wait_for_ready=True))

        if verb == "run":
            name, host_port, container_port = words
            metadata = field(1, name) + field(2, "uid-" + name) + field(3, "default")
            ports = field(2, int(container_port)) + field(3, int(host_port))
            linux = field(1, "/sextant-interop")
            config = field(1, metadata) + field(2, name) + field(5, ports) + field(8, linux)
            pod = call("RunPodSandbox", field(1, config))[1].decode()
            status = fields(call("PodSandboxStatus", field(1, pod))[1])
            print(pod, fields(status[5])[1].decode())
        else:
            call("StopPodSandbox", field(1, words[0]))
            call("RemovePodSandbox", field(1, words[0]))


main()
