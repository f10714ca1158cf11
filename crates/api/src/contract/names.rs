//! Names, labels and annotations: what is well formed, in the words of Kubernetes.
