//! What resource quotas say is used: counted anew when one changes, and now and then for what was deleted meanwhile.

use crate::admission::amounts::{self, Amounts};
use crate::admission::quota::{covers, is_about, usage, written};
use crate::contract::quantity::{Form, Quantity};
use crate::contract::{Object, Result};
use crate::registry::client::{Change, Client};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

const KIND: &str = "resourcequotas";
/// How often what is used is counted without an occasion.
const EVERY: Duration = Duration::from_secs(5);

/// Something given back is counted after this at the soonest, and what goes with it meanwhile is counted with it.
const SOON: Duration = Duration::from_millis(50);
/// Counting takes this share of the time at the most.
const SHARE: u32 = 5;

/// Counts, for ever.
pub(super) async fn run(client: Client) {
    let Ok(target) = client.target("v1", "ResourceQuota", "", "") else { return };
    let mut quotas = client.follow(target);
    let mut some = false;
    let mut took = Duration::ZERO;
    let mut due = Instant::now() + EVERY;
    loop {
        let mut is_full = false;
        let list = tokio::select! {
            change = quotas.next() => match change {
                Change::Applied(quota) => {
                    some = true;
                    if !is_news(&quota) {
                        continue;
                    }
                    Ok(vec![quota])
                }
                Change::Gone(_) | Change::Settled => continue,
            },
            freed = client.registry().freed() => {
                tokio::time::sleep(SOON.max(took * SHARE)).await;
                client.registry().every(KIND, None).map(|mut list| {
                    list.retain(|quota| freed.contains(quota.namespace()));
                    list
                })
            }
            // However often a quota is written meanwhile.
            () = tokio::time::sleep_until(due), if some => {
                is_full = true;
                let list = client.registry().every(KIND, None);
                some = list.as_ref().is_ok_and(|list| !list.is_empty());
                list
            }
        };
        let begun = Instant::now();
        let counted = match list {
            Ok(list) => {
                some |= !list.is_empty();
                count_all(&client, &list).await
            }
            Err(status) => Err(status),
        };
        // What counting all of them takes says nothing of counting some, and the other way round.
        if is_full {
            due = Instant::now() + EVERY.max(begun.elapsed() * SHARE);
        } else {
            took = begun.elapsed();
        }
        if let Err(status) = counted {
            eprintln!("sextant: cannot count what quotas limit: {status}");
        }
    }
}

/// Whether a quota says that it is to limit something else than it limits. All else in it is written by who takes, and here.
fn is_news(quota: &Object) -> bool {
    let hard = |part: &str| quota.at(&[part, "hard"]).unwrap_or(&Value::Null);
    hard("spec") != hard("status")
}

async fn count_all(client: &Client, quotas: &[Object]) -> Result<()> {
    for quota in quotas {
        match count(client, quota).await {
            Err(status) if status.code == 404 => {}
            other => other?,
        }
    }
    Ok(())
}

/// Writes into a quota what it limits and what is used of it.
async fn count(client: &Client, quota: &Object) -> Result<()> {
    let target = client.target("v1", "ResourceQuota", quota.namespace(), quota.name())?;
    // Who creates meanwhile would have it counted again.
    let _turn = client.registry().quota_turn(quota.namespace()).await;
    client
        .change(&target, |live| {
            let hard = live.at(&["spec", "hard"]).cloned().unwrap_or(Value::Null);
            let used = used(client, live, &amounts::of(Some(&hard)))?;
            let mut changed = live.clone();
            let status = changed.make(&["status"]);
            status.insert("hard".to_owned(), hard);
            status.insert("used".to_owned(), written(&used));
            Ok(changed)
        })
        .await
        .map(drop)
}

fn used(client: &Client, quota: &Object, hard: &Amounts) -> Result<Amounts> {
    let nothing = || Quantity::of(0, Form::Decimal);
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), nothing())).collect();
    for resource in client.registry().resources().kept() {
        if !resource.namespaced || !hard.keys().any(|name| is_about(name, &resource)) {
            continue;
        }
        for object in client.registry().every(&resource.stored_as, Some(quota.namespace()))? {
            if covers(quota, &resource, &object) {
                let mut taken = usage(&resource, &object);
                taken.retain(|name, _| hard.contains_key(name));
                amounts::add(&mut used, &taken);
            }
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use crate::registry::{Registry, Settings};
    use crate::store::{self, Store};
    use serde_json::json;

    #[test]
    fn what_is_taken_off_a_quota_is_no_news_of_it() {
        let quota = |spec: Value, status: Value| {
            let quota = json!({"spec": spec, "status": status});
            is_news(&Object::from_value(quota).expect("an object"))
        };
        assert!(quota(json!({"hard": {"pods": "1"}}), json!({})));
        assert!(quota(json!({"hard": {"pods": "2"}}), json!({"hard": {"pods": "1"}, "used": {"pods": "0"}})));
        assert!(quota(json!({}), json!({"hard": {"pods": "1"}, "used": {"pods": "0"}})));
        for used in ["0", "1"] {
            let status = json!({"hard": {"pods": "1"}, "used": {"pods": used}});
            assert!(!quota(json!({"hard": {"pods": "1"}}), status));
        }
        assert!(!quota(json!({}), json!({})));
    }

    #[tokio::test]
    async fn what_is_given_back_without_quotas_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), store::Options::default()).expect("a store");
        let client =
            Client::new(Registry::new(store, kinds::builtin(), Vec::new(), Settings::default()), "tester");
        let target = client.target("v1", "ConfigMap", "n", "a").expect("a kind");
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        let map = Object::from_value(map).expect("an object");
        let given_back = async {
            let made = client.create(&target, map).await.expect("it is made");
            client.delete_uid(&target, made.uid()).await.expect("it is deleted");
            // Who counts has its turn each time.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = run(client.clone()) => panic!("it counts for ever"),
            () = given_back => {}
        }
        let left = tokio::time::timeout(Duration::ZERO, client.registry().freed()).await;
        assert!(left.is_err(), "nobody takes it away: {left:?}");
    }
}
