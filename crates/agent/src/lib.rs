//! The node agent: what a kubelet does for the pods of a node, over any CRI socket.
//!
//! It never: starts a process or mounts a container's file system itself (the runtime does), or reads a container's state from
//! anywhere but the runtime.
