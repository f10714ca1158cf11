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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ledger::Transient;
    use serde_json::json;

    use super::super::cache::{self, Known, Place};
    use super::*;
    use crate::contract::Interface;

    fn list(plugin: &str) -> NetworkList {
        let list = json!({ "cniVersion": "1.1.0", "name": "pods", "plugins": [{ "type": plugin }] });
        NetworkList::from_value(list).unwrap()
    }

    fn attachment(id: &str) -> Attachment {
        let mut attachment = Attachment::new(id, "eth0", Some("/run/netns/a".into())).unwrap();
        attachment.args = vec![("K".into(), "V".into())];
        attachment.capability_args.insert("portMappings".into(), json!([{ "hostPort": 1 }]));
        attachment
    }

    fn store(place: Place<'_>, id: &str) -> AddResult {
        let link = Interface { name: "eth0".into(), mtu: Some(1400), ..Interface::default() };
        let ips = serde_json::from_value(json!([{ "address": "10.0.0.2/24", "interface": 0 }])).unwrap();
        let result = AddResult { interfaces: vec![link], ips, ..AddResult::default() };
        cache::store(place, &list("a"), &attachment(id), &result, &mut Transient::new()).unwrap();
        result
    }

    /// Whether the list that comes of it is the one at hand, and the result's first link.
    fn seen(found: Option<Known<'_>>) -> (Attachment, bool, String) {
        let Known { attachment, list, result, damage } = found.unwrap();
        assert!(damage.is_none(), "{damage:?}");
        (attachment, list.plugins[0].kind == "a", result.unwrap().interfaces.remove(0).name)
    }

    #[test]
    fn what_is_kept_is_what_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let written = Entries::default();
        let kept = || written.0.lock().unwrap().len();
        let place = Place { path: dir.path(), dir: None, written: &written };
        let result = store(place, "c");
        let file = dir.path().join("results/pods-c-eth0");
        let text = std::fs::read(&file).unwrap();
        let (known, other) = (list("a"), list("b"));
        let take = |list| written.take("results/pods-c-eth0", &text, list);
        let parsed = cache::cached(dir.path(), "pods", &attachment("c")).unwrap();
        let kept_entry = take(&known).unwrap();
        assert_eq!((&kept_entry.attachment, &kept_entry.result), (&parsed.attachment, &result));
        assert_eq!(parsed.result, Some(result));
        assert!(kept() == 0 && take(&known).is_none());

        // Once, then it is parsed; and all the same if another list or another file is at hand.
        let found = |list| seen(cache::cached_with(place, list, &attachment("c")));
        let wanted = (attachment("c"), true, "eth0".to_owned());
        store(place, "c");
        assert!(kept() == 1 && found(&known) == wanted);
        assert!(kept() == 0 && found(&known) == wanted);
        store(place, "c");
        assert_eq!(found(&other), wanted);
        store(place, "c");
        let changed =
            String::from_utf8(text.clone()).unwrap().replace("\"name\":\"eth0\"", "\"name\":\"eth9\"");
        std::fs::write(&file, changed).unwrap();
        assert_eq!(found(&known).2, "eth9");
        store(place, "c");
        std::fs::remove_file(&file).unwrap();
        assert!(cache::cached_with(place, &known, &attachment("c")).is_none());
    }

    #[test]
    fn no_more_are_kept_than_that() {
        let written = Entries::default();
        let place = Place { path: Path::new("/"), dir: None, written: &written };
        for i in 0..=KEPT {
            let entry = Written::new(vec![1], "pods", &attachment("c"), &AddResult::default());
            place.written.keep(i.to_string(), entry);
        }
        assert_eq!(written.0.lock().unwrap().len(), 1);
    }
}
