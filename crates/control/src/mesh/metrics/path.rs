//! What a request asks, as its path and its query say.

use std::time::Duration;

use client::aggregation::selector;
use client::query::Query;
use kube::core::Selector;
use smi::contract::gateway::milliseconds;
use smi::contract::metrics::API_VERSION;

use super::kinds::Kind;
use super::window::LONGEST;

/// Where nobody says how long a window is to be.
pub(super) const WINDOW: Duration = Duration::from_secs(30);

/// About whom.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// What can be asked about.
    Resources,
    /// All of a kind, of one namespace or of all.
    All(Kind, Option<String>),
    /// One; its namespace is empty where it is in none.
    One(Kind, String, String),
    /// The same, by those it spoke with.
    Edges(Kind, String, String),
}

impl Whom {
    /// Of a path below `/apis/`.
    pub(super) fn read(path: &[String]) -> Option<Self> {
        let (group, version) = API_VERSION.split_once('/')?;
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        // A path may end with a slash.
        let parts = parts.strip_suffix(&[""]).unwrap_or(&parts);
        let rest = parts.strip_prefix(&[group, version])?;
        let (whole, within) = match *rest {
            [] => return Some(Self::Resources),
            // What is within a namespace is of it.
            ["namespaces", namespace, kind, ref within @ ..] if kind != "edges" => {
                (Kind::of_path(kind).filter(|kind| kind.is_namespaced())?, (Some(namespace), within))
            }
            [kind, ref within @ ..] => (Kind::of_path(kind)?, (None, within)),
        };
        let (namespace, within) = within;
        // One object of a namespace is named with that.
        let named = namespace.is_some() || !whole.is_namespaced();
        let of = namespace.unwrap_or_default().to_owned();
        match *within {
            [] => Some(Self::All(whole, namespace.map(str::to_owned))),
            [name] if named && !name.is_empty() => Some(Self::One(whole, of, name.to_owned())),
            [name, "edges"] if named && !name.is_empty() => Some(Self::Edges(whole, of, name.to_owned())),
            _ => None,
        }
    }
}

/// How.
#[derive(Debug, PartialEq)]
pub(super) struct How {
    pub(super) window: Duration,
    /// By labels of the objects that are asked about, as it was written.
    pub(super) labels: Option<(String, Selector)>,
}

impl How {
    pub(super) fn read(query: &Query) -> Result<Self, String> {
        let window = match query.get("t") {
            None => WINDOW,
            Some(text) => duration(text).ok_or_else(|| {
                format!("t is {text:?}; it must be a window of 1s to {}, as 30s or 5m", written(LONGEST))
            })?,
        };
        let labels = query.get("labelSelector").filter(|text| !text.is_empty());
        let labels = labels.map(|text| selector(text).map(|read| (text.to_owned(), read))).transpose()?;
        Ok(Self { window, labels })
    }
}

/// A window: whole seconds, in whatever units.
fn duration(text: &str) -> Option<Duration> {
    let seconds = milliseconds(text).filter(|all| all.is_multiple_of(1000))? / 1000;
    (1..=LONGEST.as_secs()).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// The same as Go writes it.
pub(super) fn written(window: Duration) -> String {
    let seconds = window.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Option<Whom> {
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        Whom::read(&path)
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let of = |rest: &str| read(&format!("{API_VERSION}{rest}"));
        for path in ["", "/"] {
            assert_eq!(of(path), Some(Whom::Resources), "{path}");
        }
        let (shop, web) = (|| "shop".to_owned(), || "web".to_owned());
        for (path, wanted) in [
            ("/namespaces", Whom::All(Kind::Namespace, None)),
            ("/namespaces/", Whom::All(Kind::Namespace, None)),
            ("/namespaces/shop", Whom::One(Kind::Namespace, String::new(), shop())),
            ("/namespaces/shop/edges", Whom::Edges(Kind::Namespace, String::new(), shop())),
            ("/nodes/web", Whom::One(Kind::Node, String::new(), web())),
            ("/pods", Whom::All(Kind::Pod, None)),
            ("/namespaces/shop/deployments", Whom::All(Kind::Deployment, Some(shop()))),
            ("/namespaces/shop/deployments/web", Whom::One(Kind::Deployment, shop(), web())),
            ("/namespaces/shop/pods/web/edges", Whom::Edges(Kind::Pod, shop(), web())),
            ("/namespaces/shop/pods/web/edges/", Whom::Edges(Kind::Pod, shop(), web())),
        ] {
            assert_eq!(of(path), Some(wanted), "{path}");
        }
        for bad in [
            "/secrets",
            "/trafficsplits",
            "/pods/web",
            "/pods/web/edges",
            "/namespaces/shop/nodes",
            "/namespaces/shop/namespaces",
            "/namespaces/shop/pods/web/log",
            "/namespaces/shop/pods/web/edges/more",
            "/namespaces/shop/pods//edges",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(read("metrics.k8s.io/v1beta1/pods"), None);
        assert_eq!(read("metrics.smi-spec.io"), None);
    }

    #[test]
    fn windows_are_durations_that_are_not_too_long() {
        for (text, seconds) in [("30s", 30), ("1m", 60), ("1m30s", 90), ("5m", 300), ("300s", 300)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "0s", "30", "5m1s", "1h", "s", "-1s", "1.5s", "100ms", "1ä", "99999999999999999999s"]
        {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!((written(WINDOW), written(LONGEST)), ("30s".into(), "5m0s".into()));
        assert_eq!(written(WINDOW), smi::contract::metrics::WINDOW);
        let query = |text: &str| How::read(&Query::parse(text));
        assert_eq!(query("").unwrap(), How { window: WINDOW, labels: None });
        assert_eq!(query("t=1m").unwrap().window.as_secs(), 60);
        assert_eq!(query("labelSelector=app%3Dweb").unwrap().labels.unwrap().0, "app=web");
        assert!(query("t=1h").unwrap_err().contains("1s to 5m0s"));
        assert!(query("labelSelector=a+in+b+c").is_err());
    }
}
