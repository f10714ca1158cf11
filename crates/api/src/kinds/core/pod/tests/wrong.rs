//! Tables: what is wrong, and what Kubernetes says.

use super::*;

#[test]
fn an_ordinary_pod_has_nothing_wrong() {
    assert_eq!(errors(&pod(json!({}))), Vec::<String>::new());
}
