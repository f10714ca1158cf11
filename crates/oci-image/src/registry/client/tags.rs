//! Tags of a repository (end-8), all pages of them.

use std::io::Read;

use ureq::http::{Method, StatusCode};

use super::auth::Scope;
use super::call::{Call, Reply};
use super::repository::{Capability, Repository, Target};
use super::{Client, Error, redirect};
use crate::reference::Reference;

/// One page, and all pages together, have limits: a list that never ends is an error.
const PAGE_MAX: u64 = 8 << 20;
pub(super) const PAGES_MAX: usize = 1000;

impl Client {
    /// All tags of the repository that `reference` names, as the registry orders them.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>, Error> {
        let repository = Repository::of(self, reference)?;
        let act = format!("list tags of {}", reference.name());
        repository.at_each(Capability::Resolve, &act, |target| self.tags_at(target, &repository, &act))
    }

    fn tags_at(&self, target: &Target<'_>, repository: &Repository, act: &str) -> Result<Vec<String>, Error> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut path = format!("{}/tags/list", repository.path());
        for _ in 0..PAGES_MAX {
            let call = Call::new(self, Method::GET, path, act);
            let mut reply = self.call(target, &Scope::pull(target.repository), &call, &[StatusCode::OK])?;
            let bytes = page(&mut reply, act)?;
            let page: Page =
                serde_json::from_slice(&bytes).map_err(|error| reply.malformed(error.to_string()))?;
            tags.extend(page.tags.unwrap_or_default());
            match next_page(&reply, target)? {
                Some(next) => path = next,
                None => return Ok(tags),
            }
        }
        Err(Error::Answer { url: target.url(), fault: format!("its list has more than {PAGES_MAX} pages") })
    }
}

/// A page of JSON.
pub(super) fn page(reply: &mut Reply, what: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = reply.response.body_mut().as_reader().take(PAGE_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Body { url: reply.url.clone(), source })?;
    match bytes.len() as u64 > PAGE_MAX {
        true => Err(Error::TooLarge { what: what.to_owned(), url: reply.url.clone(), limit: PAGE_MAX }),
        false => Ok(bytes),
    }
}

/// `Link: </v2/a/tags/list?last=x>; rel="next"` (RFC 8288), which must stay with its host.
pub(super) fn next_page(reply: &Reply, target: &Target<'_>) -> Result<Option<String>, Error> {
    let Some(link) = reply.header("link") else { return Ok(None) };
    let is_next = |link: &&str| link.contains("rel=\"next\"") || link.contains("rel=next");
    let Some(link) = link.split(',').find(is_next) else { return Ok(None) };
    let reference =
        link.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(reference, _)| reference);
    let next = reference.and_then(|reference| redirect::resolve(&reply.url, reference));
    match next {
        Some(next) if redirect::origin(&next) == redirect::origin(&target.url()) => Ok(Some(next)),
        _ => Err(reply.malformed(format!("cannot follow Link {link:?}"))),
    }
}
