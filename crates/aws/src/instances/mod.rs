//! The machines behind nodes.

mod metadata;
mod seen;

use std::sync::Arc;

use cpi::contract::{Answer, Error, InstanceMetadata, Instances, Node, ProviderId};
use jiff::{SignedDuration, Timestamp};

pub(crate) use self::seen::Seen;
use crate::ec2::{self, Instance};
use crate::provider::Aws;

/// An instance of a node that is younger may be one that EC2 does not know yet.
const YOUNG: SignedDuration = SignedDuration::from_secs(300);

/// The instance that a provider id names; `None` where that is none of EC2's.
///
/// # Errors
/// It is another cloud's, or a machine that is no instance.
pub(crate) fn id_of(text: &str) -> Result<Option<String>, String> {
    let read: Result<ProviderId, _> = text.parse();
    let read = read.map_err(|e| e.to_string())?;
    let Some(id) = read.of(crate::NAME) else {
        return Err(format!(
            "{text:?} is no id of aws; it is written as aws:///eu-central-1a/i-0123456789abcdef0"
        ));
    };
    if id.contains("fargate") {
        return Err(format!("{text:?} is a pod of Fargate, and no instance"));
    }
    let last = id.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    // The form is that of an instance's: a mistake in it is no instance that is gone.
    if !is_instance(last) && id.contains('/') {
        return Err(format!(
            "{text:?} names no instance; it is written as aws:///eu-central-1a/i-0123456789abcdef0"
        ));
    }
    Ok(is_instance(last).then(|| last.to_owned()))
}

/// Whether this is what instances are called.
pub(crate) fn is_instance(name: &str) -> bool {
    let hex = name.strip_prefix("i-");
    hex.is_some_and(|hex| (8..=40).contains(&hex.len()) && hex.bytes().all(|c| c.is_ascii_hexdigit()))
}

/// The provider id that a node has been given.
pub(crate) fn provider_id(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.provider_id.as_deref().filter(|id| !id.is_empty())
}

/// What a node is called.
pub(crate) fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// Which instance is looked for.
enum Wanted {
    /// This one.
    Id(String),
    /// None that EC2 could have.
    Never,
}

impl Aws {
    /// The instance of a node, `None` where EC2 knows none by the id that the node has.
    async fn instance(&self, node: &Node) -> Result<Option<Arc<Instance>>, Error> {
        let failed =
            |why: String| Error::Failed(format!("cannot find the instance of node {}: {why}", name(node)));
        match self.wanted(node).await? {
            Wanted::Never => Ok(None),
            Wanted::Id(id) => {
                self.seen.note(name(node), &id);
                let found = self.seen.by_id(&self.client, &id).await;
                let found = found.map_err(|e| failed(e.to_string()))?;
                if let Some(found) = &found {
                    self.note_vpc(&found.vpc);
                }
                Ok(found)
            }
        }
    }

    async fn wanted(&self, node: &Node) -> Result<Wanted, Error> {
        let Some(text) = provider_id(node) else {
            return self.by_name(name(node)).await.map(Wanted::Id);
        };
        let read = id_of(text)
            .map_err(|why| Error::Failed(format!("spec.providerID of node {}: {why}", name(node))))?;
        Ok(read.map_or(Wanted::Never, Wanted::Id))
    }

    /// The instance that a node without an id must be: the one that is called as it is, or has its name for an id.
    pub(crate) async fn by_name(&self, node: &str) -> Result<String, Error> {
        let failed = |why: String| Error::Failed(format!("cannot find the instance of node {node}: {why}"));
        if is_instance(node) {
            return Ok(node.into());
        }
        if let Some(id) = self.seen.of_node(node) {
            let found = self.seen.by_id(&self.client, &id).await.map_err(|e| failed(e.to_string()))?;
            if found.is_some_and(|found| !found.is_gone()) {
                return Ok(id);
            }
            // Its name may be another instance's by now.
            self.seen.forget(node);
        }
        let mut all: Vec<Instance> =
            self.seen.called(node).into_iter().map(|one| Instance::clone(&one)).collect();
        if all.is_empty() {
            let called = [node.to_owned()];
            let vpc: Vec<String> = self.known_vpc().into_iter().collect();
            let mut filters: Vec<(&str, &[String])> = vec![("private-dns-name", &called)];
            if !vpc.is_empty() {
                filters.push(("vpc-id", &vpc));
            }
            all = ec2::instances_by(&self.client, &filters).await.map_err(|e| failed(e.to_string()))?;
            all.retain(|one| !one.is_gone());
        }
        match &all[..] {
            [one] => Ok(one.id.clone()),
            [] => Err(failed(
                "no instance has this private DNS name; a node is called by its instance's private DNS name or id, or its kubelet \
                 is told --provider-id"
                    .into(),
            )),
            several => {
                let ids: Vec<&str> = several.iter().map(|one| one.id.as_str()).collect();
                let ids = ids.join(", ");
                Err(failed(format!("{ids} all have this private DNS name; set VPC in --cloud-config")))
            }
        }
    }

    /// A node of another region is not gone: EC2 of this one knows nothing of it.
    async fn must_be_here(&self, node: &Node) -> Result<(), Error> {
        let here = self.client.region().await.map_err(Error::Failed)?;
        let zone = provider_id(node).and_then(|id| id.strip_prefix("aws:///")?.split_once('/'));
        match zone.and_then(|(zone, _)| crate::config::region_of(zone)) {
            Some(region) if region != here => Err(Error::Failed(format!(
                "node {} is in region {region}, but {here} is asked: set Region in --cloud-config",
                name(node)
            ))),
            _ => Ok(()),
        }
    }

    /// Whether an instance that EC2 does not know is gone: it may not be known yet, as EC2 is not told of new ones everywhere at once.
    fn is_unknown_yet(node: &Node) -> Option<SignedDuration> {
        let made = node.metadata.creation_timestamp.as_ref()?.0;
        let age = made.duration_until(Timestamp::now());
        (age < YOUNG).then_some(age)
    }
}

impl Instances for Aws {
    fn instance_exists<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        Box::pin(async move {
            match self.instance(node).await? {
                Some(found) if found.is_gone() && provider_id(node).is_none() && !is_instance(name(node)) => {
                    Err(Error::Failed(format!(
                        "{}, which had the name of node {}, is gone: another may have it by now",
                        found.id,
                        name(node)
                    )))
                }
                Some(found) => Ok(!found.is_gone()),
                None => match self.must_be_here(node).await.map(|()| Self::is_unknown_yet(node))? {
                    Some(age) => Err(Error::Failed(format!(
                        "EC2 does not know {} of node {}, which is {} s old: it may not know it yet",
                        provider_id(node).unwrap_or("the instance"),
                        name(node),
                        age.as_secs()
                    ))),
                    None => Ok(false),
                },
            }
        })
    }

    fn instance_shutdown<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        Box::pin(async move {
            let found = self.instance(node).await?.ok_or(Error::InstanceNotFound)?;
            Ok(found.state == "stopped")
        })
    }

    fn instance_metadata<'a>(&'a self, node: &'a Node) -> Answer<'a, Option<InstanceMetadata>> {
        Box::pin(async move {
            let found = self.instance(node).await?.filter(|found| !found.is_gone());
            let found = found.ok_or(Error::InstanceNotFound)?;
            let region = self.client.region().await.map_err(Error::Failed)?;
            let families = &self.client.config().families;
            Ok(Some(metadata::of(&found, provider_id(node), region, families)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_ids() {
        let id = |text| id_of(text);
        assert_eq!(id("aws:///eu-central-1a/i-0123456789abcdef0"), Ok(Some("i-0123456789abcdef0".into())));
        assert_eq!(id("aws:///i-0123456789abcdef0"), Ok(Some("i-0123456789abcdef0".into())));
        assert_eq!(id("aws://i-01234567"), Ok(Some("i-01234567".into())));
        assert!(id("aws:///eu-1a/i-").is_err());
        assert_eq!(id("aws://check-1"), Ok(None));
        assert!(id("hcloud://42").unwrap_err().contains("is no id of aws"));
        assert!(id("aws:///a/b/fargate-ip-10-0-0-1").unwrap_err().contains("Fargate"));
        assert!(id("i-0123").is_err());
    }
}
