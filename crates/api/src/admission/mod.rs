//! What has its say before an object is kept.
