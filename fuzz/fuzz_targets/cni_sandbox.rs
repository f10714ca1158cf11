//! Any bytes as what a mesh is told of a pod's sandbox, and as its answer: no panic; what is accepted is sound, and is accepted again as it is written.

use cni::mesh::{Answer, LONGEST, Question};

pub fn run(bytes: &[u8]) {
    if let Ok(question) = Question::parse(bytes) {
        assert!(bytes.len() <= LONGEST);
        if let Some(sandbox) = question.sandbox() {
            for name in [&sandbox.namespace, &sandbox.name, &sandbox.uid, &sandbox.id] {
                assert!(!name.contains(['/', ';', '=', '\0', '\n']) && name.len() <= 256);
            }
            assert!(sandbox.netns.is_absolute());
        }
        let line = question.to_line().expect("it was accepted");
        let line = line.strip_suffix(b"\n").expect("a line");
        assert!(!line.contains(&b'\n'));
        assert_eq!(Question::parse(line).ok(), Some(question));
    }
    if let Ok(answer) = Answer::parse(bytes) {
        let line = answer.to_line().expect("it was accepted");
        let line = line.strip_suffix(b"\n").expect("a line");
        assert!(!line.contains(&b'\n'));
        assert_eq!(Answer::parse(line).ok(), Some(answer));
    }
}
