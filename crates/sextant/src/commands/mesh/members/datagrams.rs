//! From whom pods take datagrams: rules in their network namespaces, which go by the addresses of those whom policies name.

use std::fs::File;
use std::sync::Arc;

use mesh::capture::{self, Names};
use mesh::datagrams::Admitted;
use smi::contract::Name;

use super::super::counters::{Counters, Watched};
use super::Members;

/// What of this is in a pod.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    there: There,
    /// What was told of it last, and is not over.
    said: Option<String>,
    /// There are rules that count.
    watched: Option<Watched>,
}

#[derive(Debug, Default)]
enum There {
    /// What one before this has left, or what has failed.
    #[default]
    Unknown,
    /// No rules.
    Anybody,
    /// Rules for these.
    Listed(Arc<Admitted>),
}

impl Members {
    /// Sees that each pod takes datagrams from those alone whom its policies name, if any do. Costs next to nothing where nothing has changed.
    pub(in crate::commands::mesh) fn admit(&mut self) {
        // Who is nobody's member, or without a control plane, is guarded in nothing.
        if self.certificates.is_none() {
            return;
        }
        let captured = self.captured.iter_mut().map(|(name, pod)| (name, &pod.netns, &mut pod.datagrams));
        let barred = self.barred.iter_mut().map(|(name, pod)| (name, &pod.netns, &mut pod.datagrams));
        let (names, counters) = (&self.names, self.known.counters());
        for (name, netns, datagrams) in captured.chain(barred) {
            // Who is none any more is let go of in a moment.
            if self.wanted.contains_key(name) {
                datagrams.settle((names, counters), name, netns, self.admissions.of(name));
            }
        }
    }

    /// A pod that is no member any more takes datagrams from anybody.
    pub(super) fn admit_all(&self, name: &Name, netns: &File) {
        if let Err(error) = capture::admit_all(netns, &self.names) {
            eprintln!("sextant mesh: warning: pod {name} stays closed to datagrams of others: {error}");
        }
    }
}

impl Datagrams {
    /// What has failed, until it is as it should be.
    pub(super) fn failing(&self) -> Option<&str> {
        self.said.as_deref()
    }

    /// Makes it so; what fails is said, once, and tried again by the next call.
    fn settle(
        &mut self,
        (names, counters): (&Names, &Counters),
        name: &Name,
        netns: &Arc<File>,
        admitted: Option<Arc<Admitted>>,
    ) {
        let before = match (&self.there, &admitted) {
            (There::Anybody, None) => return,
            (There::Listed(before), Some(admitted)) if before == admitted => return,
            (There::Listed(before), _) => Some(before.clone()),
            _ => None,
        };
        let done = match &admitted {
            Some(admitted) => capture::admit(netns, names, admitted, before.as_deref()),
            None => capture::admit_all(netns, names),
        };
        match (done, admitted) {
            (Ok(()), Some(admitted)) => {
                if before.is_none() {
                    eprintln!("sextant mesh: pod {name} takes datagrams from those alone who may send them");
                }
                (self.there, self.said) = (There::Listed(admitted), None);
                self.watched.get_or_insert_with(|| counters.watch(name, netns));
            }
            (Ok(()), None) => {
                if before.is_some() {
                    eprintln!("sextant mesh: pod {name} takes datagrams from anybody");
                }
                *self = Self { there: There::Anybody, ..Self::default() };
            }
            (Err(error), admitted) => {
                self.there = There::Unknown;
                // Where it cannot be said who may send, nobody may.
                let is_closed =
                    admitted.is_some() && capture::admit(netns, names, &Admitted::default(), None).is_ok();
                if is_closed {
                    self.watched.get_or_insert_with(|| counters.watch(name, netns));
                }
                let text = match (admitted, is_closed) {
                    (Some(_), true) => format!("pod {name} takes datagrams from nobody: {error}"),
                    (Some(_), false) => format!("datagrams to pod {name} are not held to policies: {error}"),
                    (None, _) => format!("pod {name} stays closed to datagrams of others: {error}"),
                };
                if self.said.as_ref() != Some(&text) {
                    eprintln!("sextant mesh: warning: {text}; tries again");
                    self.said = Some(text);
                }
            }
        }
    }
}
