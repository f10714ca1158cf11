//! Bodies of requests: JSON or YAML, read by a schema, refused in the words of Kubernetes.
