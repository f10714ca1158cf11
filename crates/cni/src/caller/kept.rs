//! What a process keeps of the entries that it wrote into the cache. DEL reads the entry's file all the same: only if nobody has
//! changed it is known what it says, and it need not be parsed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::contract::{AddResult, Attachment, NetworkList};

/// So many are kept, which take about 3 KiB each: of more containers than most nodes may have.
const KEPT: usize = 256;

/// An entry as it was written, and what it says.
#[derive(Debug)]
pub(super) struct Written {
    text: Vec<u8>,
    network: String,
    pub(super) attachment: Attachment,
    pub(super) result: AddResult,
}

impl Written {
    /// The entry `text`, which was made of the rest.
    pub(super) fn new(text: Vec<u8>, network: &str, attachment: &Attachment, result: &AddResult) -> Self {
        let AddResult { interfaces, ips, routes, dns, seen: _ } = result;
        let (interfaces, ips, routes, dns) = (interfaces.clone(), ips.clone(), routes.clone(), dns.clone());
        let result = AddResult { interfaces, ips, routes, dns, ..AddResult::default() };
        Self { text, network: network.to_owned(), attachment: attachment.clone(), result }
    }

    /// It is this `text`, and was made with `list`.
    fn is(&self, text: &[u8], list: &NetworkList) -> bool {
        // Neither names nor base64 have quotes, so what is called config is the first of that name.
        let made_with = || {
            let start = CONFIG.len() + self.text.windows(CONFIG.len()).position(|part| part == CONFIG)?;
            self.text.get(start..)?.strip_prefix(list.encoded().as_bytes())?.first()
        };
        self.text == text && self.network == list.name && made_with() == Some(&b'"')
    }
}

const CONFIG: &[u8] = b"\"config\":\"";

/// Those of attachments that are there, by the names of their files.
#[derive(Debug, Default)]
pub(super) struct Entries(Mutex<HashMap<String, Written>>);

impl Entries {
    pub(super) fn keep(&self, name: String, written: Written) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of whom another process detached, they stay: then all begins anew.
        let old = if kept.len() >= KEPT { std::mem::take(&mut *kept) } else { HashMap::new() };
        kept.insert(name, written);
        drop(kept);
        drop(old);
    }

    /// What the file `name` says, if it has this `text` and was made with `list`. It is not kept any longer.
    pub(super) fn take(&self, name: &str, text: &[u8], list: &NetworkList) -> Option<Written> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        kept.filter(|written| written.is(text, list))
    }
}
