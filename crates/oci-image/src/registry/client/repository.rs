//! A repository at one of its registry's endpoints, and trying those endpoints in order.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Client, Error};
use crate::reference::Reference;
use crate::registry::hosts::{self, Endpoint};

/// What an endpoint must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capability {
    Pull,
    Resolve,
    Push,
}

impl Capability {
    fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Resolve => "resolve",
            Self::Push => "push",
        }
    }

    fn of(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Pull => endpoint.capabilities.pull,
            Self::Resolve => endpoint.capabilities.resolve,
            Self::Push => endpoint.capabilities.push,
        }
    }
}

/// An endpoint and what was learnt about it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) endpoint: Endpoint,
    /// It turned out to speak plain http.
    pub(super) plain: AtomicBool,
    /// It could not be reached: the others are asked before it.
    dead: AtomicBool,
}

/// The endpoints of a reference's registry.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) reference: Reference,
    pub(super) places: Vec<Place>,
}

/// One endpoint, for one repository.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) registry: &'a str,
    pub(super) repository: &'a str,
    pub(super) plain: &'a AtomicBool,
}

impl Repository {
    pub(super) fn of(client: &Client, reference: &Reference) -> Result<Self, Error> {
        let config = client.config();
        let endpoints = hosts::endpoints(&config.hosts_dirs, reference.registry(), config.plain_http)?;
        let new = |endpoint: Endpoint| {
            let plain = AtomicBool::new(endpoint.http_fallback && client.is_plain(&endpoint.authority));
            Place { endpoint, plain, dead: AtomicBool::new(false) }
        };
        Ok(Self { reference: reference.clone(), places: endpoints.into_iter().map(new).collect() })
    }

    /// `/library/busybox`.
    pub(super) fn path(&self) -> String {
        format!("/{}", self.reference.repository())
    }

    fn target<'a>(&'a self, place: &'a Place) -> Target<'a> {
        Target {
            endpoint: &place.endpoint,
            registry: self.reference.registry(),
            repository: self.reference.repository(),
            plain: &place.plain,
        }
    }

    /// The endpoint that pushes go to: the first that may be pushed to, as in containerd.
    pub(super) fn to_push(&self, act: &str) -> Result<Target<'_>, Error> {
        let place = self.places.iter().find(|place| place.endpoint.capabilities.push);
        place.map(|place| self.target(place)).ok_or_else(|| self.nowhere(Capability::Push, act))
    }

    /// The registry itself, or what stands in its place where it is not to be asked.
    pub(super) fn itself(&self) -> Option<Target<'_>> {
        let own = |place: &&Place| !place.endpoint.mirror;
        self.places.iter().rev().find(own).or(self.places.last()).map(|place| self.target(place))
    }

    /// All endpoints.
    pub(super) fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        self.places.iter().map(|place| self.target(place))
    }

    fn nowhere(&self, capability: Capability, act: &str) -> Error {
        Error::NoEndpoint {
            act: act.to_owned(),
            registry: self.reference.registry().to_owned(),
            capability: capability.name(),
        }
    }

    /// Does `attempt` at each endpoint with the capability until one succeeds; an endpoint that could not be reached
    /// before comes last.
    pub(super) fn at_each<T>(
        &self,
        capability: Capability,
        act: &str,
        attempt: impl Fn(&Target<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let able = || self.places.iter().filter(|place| capability.of(&place.endpoint));
        let is_dead = |place: &&Place| place.dead.load(Ordering::Relaxed);
        let (last, first): (Vec<_>, Vec<_>) = able().partition(is_dead);
        let mut failures = Vec::new();
        for place in first.into_iter().chain(last) {
            let target = self.target(place);
            match attempt(&target) {
                Ok(done) => return Ok(done),
                Err(error) => {
                    let unreachable = matches!(error, Error::Unreachable { .. });
                    place.dead.store(unreachable, Ordering::Relaxed);
                    failures.push((target.url(), error));
                }
            }
        }
        match failures.len() {
            0 => Err(self.nowhere(capability, act)),
            1 => Err(failures.remove(0).1),
            _ => Err(Error::Everywhere { act: act.to_owned(), failures }),
        }
    }
}
