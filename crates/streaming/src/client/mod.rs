//! The side that asks: exec, attach and port-forward against a kubelet, an API server, containerd, CRI-O or our own.
