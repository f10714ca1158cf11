use std::path::PathBuf;

use kernel::netlink::{Link, Mac, SetLink};
use serde_json::{Map, Value};

use super::sysctl::Sysctl;
use crate::contract::{Code, Error, Keys, Request};

/// What the plugin `tuning` is told.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) sysctls: Vec<Sysctl>,
    pub(super) link: Settings,
}

/// Attributes of a link. What is none is not touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) mac: Option<Mac>,
    pub(super) promisc: Option<bool>,
    pub(super) mtu: Option<u32>,
    pub(super) allmulti: Option<bool>,
    pub(super) tx_queue_len: Option<u32>,
}

impl Conf {
    /// `args.cni` overrides the keys of its names; sysctls are overridden one by one.
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        let own = request.keys();
        let empty = Map::new();
        let args = own.object("args")?.map(|args| Keys::new(args, "\"args\"").object("cni"));
        let args = Keys::new(args.transpose()?.flatten().unwrap_or(&empty), "\"args.cni\"");
        let of = |key: &str| if args.get(key).is_some() { args } else { own };
        let mut sysctls = own.object("sysctl")?.cloned().unwrap_or_default();
        sysctls.extend(args.object("sysctl")?.cloned().unwrap_or_default());
        let ifname = &request.attachment.ifname;
        let sysctls = sysctls.iter().map(|(key, value)| Sysctl::read(key, value, ifname));
        let flag = |key: &str| match of(key).get(key) {
            Some(Value::Bool(on)) => Ok(Some(*on)),
            Some(_) => Err(of(key).refuse(key, "true or false")),
            None => Ok(None),
        };
        let link = Settings {
            mac: mac(request, &own, &args)?,
            // As with the reference plugin: false, like nothing at all, leaves it as it is.
            promisc: flag("promisc")?.filter(|on| *on),
            mtu: of("mtu").number("mtu")?.filter(|mtu| *mtu != 0),
            allmulti: flag("allmulti")?,
            tx_queue_len: of("txQLen").number("txQLen")?,
        };
        Ok(Self { sysctls: sysctls.collect::<Result<_, _>>()?, link })
    }
}

/// The later of these wins: the key `mac`, `MAC` of `CNI_ARGS`, the capability `mac`, `args.cni.mac`.
fn mac(request: &Request<'_>, own: &Keys<'_>, args: &Keys<'_>) -> Result<Option<Mac>, Error> {
    if args.get("mac").is_some() {
        return args.parse("mac");
    }
    let runtime = own.object("runtimeConfig")?.map(|runtime| Keys::new(runtime, "\"runtimeConfig\""));
    if let Some(mac) = runtime.map(|runtime| runtime.parse("mac")).transpose()?.flatten() {
        return Ok(Some(mac));
    }
    match request.attachment.arg("MAC").filter(|mac| !mac.is_empty()) {
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|e| Error::new(Code::InvalidEnvironment, format!("cannot use MAC of CNI_ARGS: {e}"))),
        None => own.parse("mac"),
    }
}

/// Where the attributes are kept that DEL restores. It is read alone: DEL must work whatever else is in the configuration.
pub(super) fn data_dir(keys: &Keys<'_>) -> Result<PathBuf, Error> {
    match keys.text("dataDir")?.filter(|path| !path.is_empty()) {
        Some(path) if path.starts_with('/') => Ok(path.into()),
        Some(_) => Err(keys.refuse("dataDir", "an absolute path")),
        None => Ok("/run/cni/tuning".into()),
    }
}

impl Settings {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `link` has of those attributes that are set here.
    pub(super) fn as_they_are(&self, link: &Link) -> Self {
        Self {
            mac: self.mac.and(link.mac),
            promisc: self.promisc.map(|_| link.is_promisc()),
            mtu: self.mtu.map(|_| link.mtu),
            allmulti: self.allmulti.map(|_| link.is_allmulti()),
            tx_queue_len: self.tx_queue_len.map(|_| link.tx_queue_len),
        }
    }

    /// These where they are set, those of `others` where not.
    pub(super) fn or(self, others: Self) -> Self {
        Self {
            mac: self.mac.or(others.mac),
            promisc: self.promisc.or(others.promisc),
            mtu: self.mtu.or(others.mtu),
            allmulti: self.allmulti.or(others.allmulti),
            tx_queue_len: self.tx_queue_len.or(others.tx_queue_len),
        }
    }

    /// A change an attribute, with its key, in the order of the reference plugin.
    pub(super) fn changes(&self, link: u32) -> impl Iterator<Item = (&'static str, SetLink<'static>)> {
        let set = || SetLink::index(link);
        [
            ("mac", self.mac.map(|mac| set().mac(mac))),
            ("promisc", self.promisc.map(|on| set().promisc(on))),
            ("mtu", self.mtu.map(|mtu| set().mtu(mtu))),
            ("allmulti", self.allmulti.map(|on| set().allmulti(on))),
            ("txQLen", self.tx_queue_len.map(|packets| set().tx_queue_len(packets))),
        ]
        .into_iter()
        .filter_map(|(key, change)| change.map(|change| (key, change)))
    }

    /// The first attribute of `there` that is not as it is here: its key, the value wanted and the value there.
    pub(super) fn differs(&self, there: &Self) -> Option<(&'static str, String, String)> {
        fn pair<T: PartialEq + ToString>(wanted: &Option<T>, there: &Option<T>) -> Option<(String, String)> {
            let text = |value: &Option<T>| value.as_ref().map_or_else(|| "nothing".into(), T::to_string);
            (wanted.is_some() && wanted != there).then(|| (text(wanted), text(there)))
        }
        [
            ("mac", pair(&self.mac, &there.mac)),
            ("promisc", pair(&self.promisc, &there.promisc)),
            ("mtu", pair(&self.mtu, &there.mtu)),
            ("allmulti", pair(&self.allmulti, &there.allmulti)),
            ("txQLen", pair(&self.tx_queue_len, &there.tx_queue_len)),
        ]
        .into_iter()
        .find_map(|(key, pair)| pair.map(|(wanted, there)| (key, wanted, there)))
    }
}
