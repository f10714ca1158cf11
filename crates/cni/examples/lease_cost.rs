//! What an ADD and a DEL of host-local cost in this process, by the number of leases that are there already.
//!
//! `cargo run --release -p cni --example lease_cost [COUNT]`. Printed: the median of COUNT, CPU time (user and system) in
//! microseconds, with the round-robin in empty space and with one free address in a range that is otherwise full.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use cni::contract::{AddResult, Attachment, Delegate, Error as Refusal, PluginConf, Request, Version};
use ledger::{Record, Transient};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// host-local delegates to nobody.
struct Nobody;

impl Delegate for Nobody {
    fn add(&self, _: &str, _: &Request<'_>, _: &mut dyn Record) -> Result<AddResult, Refusal> {
        Ok(AddResult::default())
    }

    fn del(&self, _: &str, _: &Request<'_>, _: &mut dyn Record) -> Result<(), Refusal> {
        Ok(())
    }

    fn check(&self, _: &str, _: &Request<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn status(&self, _: &str, _: &Request<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn gc(&self, _: &str, _: &Request<'_>, _: &mut dyn Record) -> Result<(), Refusal> {
        Ok(())
    }
}

fn main() -> Outcome<()> {
    let count = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;
    println!("leases        ADD     DEL   STATUS   (CPU us, median of {count})");
    for leases in [0, 1_000, 10_000] {
        measure(leases, count, "10.64.255.254", "")?;
    }
    for leases in [1_000_u32, 10_000] {
        let end = std::net::Ipv4Addr::from_bits(0x0a40_0002 + leases);
        measure(leases, count, &end.to_string(), "one free")?;
    }
    Ok(())
}

fn measure(leases: u32, count: usize, end: &str, words: &str) -> Outcome<()> {
    let dir = std::env::temp_dir().join(format!("sextant-lease-cost-{}", std::process::id()));
    let outcome = measure_in(&dir, leases, count, end);
    std::fs::remove_dir_all(&dir)?;
    let [add, del, status] = outcome?;
    println!("{leases:<8} {add:>8.1} {del:>7.1} {status:>8.1}   {words}");
    Ok(())
}

fn measure_in(dir: &Path, leases: u32, count: usize, end: &str) -> Outcome<[f64; 3]> {
    let network = dir.join("n");
    std::fs::create_dir_all(&network)?;
    for i in 0..leases {
        let address = std::net::Ipv4Addr::from_bits(0x0a40_0002 + i);
        std::fs::write(network.join(address.to_string()), format!("kept{i}\r\neth0"))?;
    }
    let conf = json!({ "type": "x", "ipam": { "type": "host-local", "subnet": "10.64.0.0/16", "rangeEnd": end, "dataDir": dir } });
    let Value::Object(keys) = conf else { return Err("no object".into()) };
    let conf = PluginConf { kind: "x".into(), keys };
    let registry = cni::plugin::builtins();
    let plugin = registry.get("host-local").ok_or("no host-local")?;
    let mut costs = [const { Vec::new() }; 3];
    for i in 0..=count {
        let attachment = Attachment::new(format!("pod{i}"), "eth0", None)?;
        let request = Request {
            attachment: &attachment,
            network: "n",
            version: Version::LATEST,
            conf: &conf,
            previous: None,
            delegate: &Nobody,
        };
        let times = [
            now()?,
            {
                plugin.add(&request, &mut Transient::new())?;
                now()?
            },
            {
                plugin.del(&request, &mut Transient::new())?;
                now()?
            },
            {
                plugin.status(&request)?;
                now()?
            },
        ];
        // The first call reads what is there.
        for (cost, pair) in costs.iter_mut().zip(times.windows(2)).filter(|_| i > 0) {
            cost.push(pair[1] - pair[0]);
        }
    }
    Ok(costs.map(|mut costs| {
        costs.sort();
        costs.get(costs.len() / 2).map_or(0.0, |cost| cost.as_secs_f64() * 1e6)
    }))
}

/// CPU time of this process.
fn now() -> Outcome<Duration> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(now.tv_sec.try_into()?, now.tv_nsec.try_into()?))
}
