//! What is asked and answered. No I/O.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::contract::{Attachment, Code, Error, NetworkList};

/// The longest line, in bytes: a path may be 4 KiB, and JSON writes some bytes as two.
pub const LONGEST: usize = 16 << 10;
/// The longest names of Kubernetes' objects.
const NAME: usize = 253;
/// The longest id of a sandbox, and uid of a pod; runtimes have 64 digits, Kubernetes 36.
const ID: usize = 256;
/// `PATH_MAX` without its zero.
const PATH: usize = 4095;
/// So much of the words of an error is passed on.
const WORDS: usize = 1024;

/// A pod's sandbox, whose network is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sandbox {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid; empty where the runtime does not tell it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The sandbox's id, as the runtime calls it.
    pub id: String,
    /// Where its network namespace is, an absolute path: the same namespace as the descriptor that comes along.
    pub netns: PathBuf,
}

/// What a mesh is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Question {
    /// The sandbox's network is there, and no container of it has begun: it is to be captured if the pod is a member of the mesh.
    Made(Sandbox),
    /// Is it as it is to be? Nothing is changed.
    Check(Sandbox),
    /// Are members captured now?
    Ready,
}

/// What a mesh answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// The pod is a member, and what it connects to from now on comes to the mesh.
    Captured,
    /// The pod is no member, and left alone.
    NotAMember,
    /// It was not known in time whether the pod is a member. If it is one it is found later.
    Unknown,
    /// To [`Question::Ready`]: yes.
    Ready,
    /// Why not, in words.
    Failed(String),
}

impl Sandbox {
    /// The sandbox that an attachment is of, as Kubernetes' runtimes say it in `CNI_ARGS`: `K8S_POD_NAMESPACE`, `K8S_POD_NAME`, `K8S_POD_UID`,
    /// `K8S_POD_INFRA_CONTAINER_ID`. None if it is no pod's.
    ///
    /// # Errors
    /// Code 4: one of these is what no runtime would say, or there is no `CNI_NETNS`.
    pub fn of(attachment: &Attachment) -> Result<Option<Self>, Error> {
        let arg = |key: &str| attachment.arg(key).unwrap_or_default().to_owned();
        let (namespace, name) = (arg("K8S_POD_NAMESPACE"), arg("K8S_POD_NAME"));
        if namespace.is_empty() || name.is_empty() {
            return Ok(None);
        }
        let netns = attachment.netns()?;
        let netns = std::path::absolute(netns).map_err(|e| {
            Error::because(format!("cannot use CNI_NETNS {}", netns.display()), e)
                .code(Code::InvalidEnvironment)
        })?;
        let id = arg("K8S_POD_INFRA_CONTAINER_ID");
        let id = if id.is_empty() { attachment.container_id.clone() } else { id };
        let sandbox = Self { namespace, name, uid: arg("K8S_POD_UID"), id, netns };
        match sandbox.mistake() {
            None => Ok(Some(sandbox)),
            Some(what) => {
                let error = format!("cannot tell the mesh of the pod in CNI_ARGS: {what}");
                Err(Error::new(Code::InvalidEnvironment, error))
            }
        }
    }

    /// What is wrong with it.
    fn mistake(&self) -> Option<String> {
        let is_name = |text: &str, most: usize| text.len() <= most && NetworkList::is_name(text);
        let wrong = |what: &str, text: &str| Some(format!("{text:?} is no {what}"));
        if !is_name(&self.namespace, NAME) {
            return wrong("namespace", &self.namespace);
        }
        if !is_name(&self.name, NAME) {
            return wrong("name of a pod", &self.name);
        }
        if !self.uid.is_empty() && !is_name(&self.uid, ID) {
            return wrong("uid", &self.uid);
        }
        if !is_name(&self.id, ID) {
            return wrong("id of a sandbox", &self.id);
        }
        if !is_path(&self.netns) {
            return wrong("absolute path of a network namespace", &self.netns.to_string_lossy());
        }
        None
    }
}

fn is_path(path: &Path) -> bool {
    let text = path.to_str().unwrap_or_default();
    text.starts_with('/') && text.len() <= PATH && !text.contains(|c: char| c.is_control())
}

impl Question {
    /// Reads a question, without the line's end.
    ///
    /// # Errors
    /// Code 6: it is longer than a question, or none of this version. Code 7: a name, an id or a path in it is none.
    pub fn parse(line: &[u8]) -> Result<Self, Error> {
        if line.len() > LONGEST {
            let error = format!("cannot read a question: it is longer than {LONGEST} bytes");
            return Err(Error::new(Code::Decode, error));
        }
        let question: Self = serde_json::from_slice(line)
            .map_err(|e| Error::because("cannot read a question", e).code(Code::Decode))?;
        question.sound()
    }

    /// The question as a line.
    ///
    /// # Errors
    /// Code 7: a name, an id or a path in it is none.
    pub fn to_line(&self) -> Result<Vec<u8>, Error> {
        line(self.clone().sound()?)
    }

    /// The sandbox that it is about.
    #[must_use]
    pub fn sandbox(&self) -> Option<&Sandbox> {
        match self {
            Self::Made(sandbox) | Self::Check(sandbox) => Some(sandbox),
            Self::Ready => None,
        }
    }

    fn sound(self) -> Result<Self, Error> {
        match self.sandbox().and_then(Sandbox::mistake) {
            None => Ok(self),
            Some(what) => Err(Error::new(Code::InvalidConfig, format!("cannot use a question: {what}"))),
        }
    }
}

impl Answer {
    /// What could not be done, and why: not all of very long words.
    #[must_use]
    pub fn failed(words: &str) -> Self {
        let end = words.char_indices().map(|(at, _)| at).find(|at| *at >= WORDS).unwrap_or(words.len());
        Self::Failed(words.get(..end).unwrap_or_default().to_owned())
    }

    /// Reads an answer, without the line's end.
    ///
    /// # Errors
    /// Code 11: it is none of this version. Another version may come when the mesh is started again.
    pub fn parse(line: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(line)
            .map_err(|e| Error::because("cannot read the mesh's answer", e).code(Code::TryAgain))
    }

    /// The answer as a line.
    ///
    /// # Errors
    /// None that is known: it is all text.
    pub fn to_line(&self) -> Result<Vec<u8>, Error> {
        line(self)
    }
}

fn line(value: impl Serialize) -> Result<Vec<u8>, Error> {
    let mut line = serde_json::to_vec(&value)
        .map_err(|e| Error::because("cannot write a message", e).code(Code::InvalidConfig))?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: &str = r#"{"made":{"namespace":"shop","name":"web-0","uid":"7e1f","id":"c0ffee","netns":"/run/netns/blue"}}"#;

    #[test]
    fn what_is_read_is_what_was_written() {
        let question = Question::parse(MADE.as_bytes()).unwrap();
        assert_eq!(question.to_line().unwrap(), format!("{MADE}\n").into_bytes());
        assert_eq!(question.sandbox().unwrap().name, "web-0");
        assert_eq!(Question::parse(b"\"ready\"").unwrap(), Question::Ready);
        for answer in [
            Answer::Captured,
            Answer::NotAMember,
            Answer::Unknown,
            Answer::Ready,
            Answer::failed("cannot \"do\" it\n"),
        ] {
            let line = answer.to_line().unwrap();
            assert_eq!(Answer::parse(line.strip_suffix(b"\n").unwrap()).unwrap(), answer);
        }
        let Answer::Failed(words) = Answer::failed(&"ä".repeat(WORDS)) else { panic!() };
        assert_eq!(words.len(), WORDS);
        assert!(Answer::failed(&"\u{1}".repeat(2 * WORDS)).to_line().unwrap().len() < LONGEST);
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let long = "x".repeat(LONGEST);
        for (from, to, code) in [
            ("shop", "", Code::InvalidConfig),
            ("shop", "a/b", Code::InvalidConfig),
            ("web-0", "../x", Code::InvalidConfig),
            ("web-0", &long[..300], Code::InvalidConfig),
            ("7e1f", "a b", Code::InvalidConfig),
            ("c0ffee", "", Code::InvalidConfig),
            ("c0ffee", &long[..300], Code::InvalidConfig),
            ("/run/netns/blue", "run/netns/blue", Code::InvalidConfig),
            ("/run/netns/blue", "/run/\\u0000", Code::InvalidConfig),
            ("/run", format!("/{}", &long[..5000]).as_str(), Code::InvalidConfig),
            ("shop", long.as_str(), Code::Decode),
            ("\"made\"", "\"mad\"", Code::Decode),
            ("\"uid\"", "\"user\"", Code::Decode),
            ("\"uid\"", "\"id\"", Code::Decode),
            ("\"7e1f\"", "7", Code::Decode),
            ("}}", "}} ", Code::Decode),
            ("}}", "}}{}", Code::Decode),
            ("}}", "}", Code::Decode),
        ] {
            let text = MADE.replacen(from, to, 1);
            // Space behind it is no matter.
            if to == "}} " {
                assert!(Question::parse(text.as_bytes()).is_ok());
                continue;
            }
            let error = Question::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{from} {error}");
        }
    }

    #[test]
    fn a_pod_is_what_runtimes_say_of_it() {
        let mut attachment = Attachment::new("id", "eth0", Some("/run/netns/blue".into())).unwrap();
        assert_eq!(Sandbox::of(&attachment).unwrap(), None);
        let arg = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        attachment.args = vec![arg("K8S_POD_NAMESPACE", "shop"), arg("K8S_POD_NAME", "web-0")];
        let sandbox = Sandbox::of(&attachment).unwrap().unwrap();
        assert_eq!((sandbox.id.as_str(), sandbox.uid.as_str()), ("id", ""));
        attachment.args.push(arg("K8S_POD_UID", "7e1f"));
        attachment.args.push(arg("K8S_POD_INFRA_CONTAINER_ID", "c0ffee"));
        let sandbox = Sandbox::of(&attachment).unwrap().unwrap();
        assert_eq!((sandbox.id.as_str(), sandbox.uid.as_str()), ("c0ffee", "7e1f"));
        assert_eq!(Question::Made(sandbox).to_line().unwrap(), format!("{MADE}\n").into_bytes());
        attachment.netns = None;
        assert_eq!(Sandbox::of(&attachment).unwrap_err().code, Code::InvalidEnvironment);
        attachment.netns = Some("/run/netns/blue".into());
        attachment.args[0].1 = "a/b".into();
        let error = Sandbox::of(&attachment).unwrap_err();
        assert_eq!(error.code, Code::InvalidEnvironment);
        assert!(error.to_string().contains("a/b"), "{error}");
    }
}
