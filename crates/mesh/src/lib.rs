//! The data path of the mesh: connections of pods are answered by the mesh's model, one request or one connection at a time.
//!
//! [`http1`] reads and writes HTTP/1.1, [`balance`] chooses among endpoints, [`reactor`] is the loop that one thread runs.
//!
//! **What it never does**: it decides nothing about an object, asks no API server and knows no Kubernetes but by [`smi::model`].

pub mod balance;
pub mod http1;
pub mod proxy;
pub mod reactor;
