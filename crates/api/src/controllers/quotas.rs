//! What resource quotas say is used: counted anew when one changes, and now and then for what was deleted meanwhile.

use crate::admission::amounts::{self, Amounts};
use crate::admission::quota::{covers, is_about, usage, written};
use crate::contract::quantity::{Form, Quantity};
use crate::contract::{Object, Result};
use crate::registry::client::{Change, Client};
use serde_json::Value;
use std::time::{Duration, Instant};

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
    loop {
        let list = tokio::select! {
            change = quotas.next() => match change {
                Change::Applied(quota) => Ok(vec![quota]),
                Change::Gone(_) | Change::Settled => continue,
            },
            freed = client.registry().freed(), if some => {
                tokio::time::sleep(SOON.max(took * SHARE)).await;
                client.registry().every(KIND, None).map(|mut list| {
                    list.retain(|quota| freed.contains(quota.namespace()));
                    list
                })
            }
            () = tokio::time::sleep(EVERY), if some => {
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
        took = begun.elapsed();
        if let Err(status) = counted {
            eprintln!("sextant: cannot count what quotas limit: {status}");
        }
    }
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
