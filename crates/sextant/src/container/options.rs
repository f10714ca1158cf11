//! What the words of `run`'s options mean.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, TcpListener};

use cni::contract::PortMapping;

use super::record::Restart;
use crate::cli::RunArgs;
use crate::failure::{Context, Failure, Result};
use crate::output::parse_bytes;

/// `run`'s options, understood.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) env: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ports: Vec<PortMapping>,
    pub(crate) memory: Option<i64>,
    /// Microseconds of CPU time in each 100 ms.
    pub(crate) cpu_quota: Option<i64>,
    pub(crate) pids: Option<i64>,
    pub(crate) shm_size: u64,
    pub(crate) restart: Option<Restart>,
    pub(crate) stop_signal: Option<i32>,
    pub(crate) ulimits: Vec<(String, u64, u64)>,
}

fn wrong(option: &str, value: &str, hint: &str) -> Failure {
    Failure::new(format!("cannot use {option} {value:?}: {hint}")).with_code(125)
}

impl Options {
    pub(crate) fn parse(args: &RunArgs) -> Result<Self> {
        let size = |option: &str, text: &Option<String>| -> Result<Option<u64>> {
            text.as_deref()
                .map(|t| parse_bytes(t).ok_or_else(|| wrong(option, t, "give a size such as 512m or 2g")))
                .transpose()
        };
        let memory = size("--memory", &args.memory)?;
        if let (Some(bytes), Some(text)) = (memory, &args.memory)
            && bytes < 512 << 10
        {
            return Err(wrong("--memory", text, "less than 512k is not enough to start a program"));
        }
        Ok(Self {
            env: variables(&args.env, &args.env_file)?,
            labels: args
                .label
                .iter()
                .map(|l| l.split_once('=').unwrap_or((l, "")))
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
            ports: args.publish.iter().map(|p| ports(p)).collect::<Result<Vec<_>>>()?.concat(),
            memory: memory.map(|m| m as i64),
            cpu_quota: args.cpus.as_deref().map(cpus).transpose()?,
            pids: args.pids_limit,
            shm_size: size("--shm-size", &Some(args.shm_size.clone()))?.unwrap_or(64 << 20),
            restart: Some(restart(&args.restart, args.rm)?),
            stop_signal: args
                .stop_signal
                .as_deref()
                .map(|s| kernel::signal::parse(s).ok_or_else(|| wrong("--stop-signal", s, "no such signal")))
                .transpose()?,
            ulimits: args.ulimit.iter().map(|u| ulimit(u)).collect::<Result<_>>()?,
        })
    }
}

/// Variables from `-e` and `--env-file`: the files first. A name alone passes on this process's own.
pub(crate) fn variables(given: &[String], files: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).context(|| format!("read the variables of {file}"))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if !line.is_empty() && !line.starts_with('#') {
                let place = || format!("read the variables of {file}, line {}", number + 1);
                all.extend(variable(line).context(place)?);
            }
        }
    }
    for word in given {
        all.extend(variable(word)?);
    }
    Ok(all)
}

fn variable(word: &str) -> Result<Option<String>> {
    match word.split_once('=') {
        Some(("", _)) => Err(Failure::new(format!("{word:?} names no variable: give NAME=VALUE"))),
        Some(_) => Ok(Some(word.to_owned())),
        None => Ok(std::env::var(word).ok().map(|value| format!("{word}={value}"))),
    }
}

fn cpus(text: &str) -> Result<i64> {
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && n >= 0.01 => Ok((n * 100_000.0) as i64),
        _ => Err(wrong("--cpus", text, "give a number of CPUs such as 0.5 or 2, at least 0.01")),
    }
}

fn restart(text: &str, remove: bool) -> Result<Restart> {
    let policy = match text.split_once(':') {
        None => match text {
            "no" | "" => Restart::No,
            "on-failure" => Restart::OnFailure(0),
            "always" => Restart::Always,
            "unless-stopped" => Restart::UnlessStopped,
            _ => {
                return Err(wrong(
                    "--restart",
                    text,
                    "give no, on-failure[:TIMES], always or unless-stopped",
                ));
            }
        },
        Some(("on-failure", times)) => Restart::OnFailure(
            times
                .parse()
                .map_err(|_| wrong("--restart", text, "give a number of times after on-failure:"))?,
        ),
        Some(_) => return Err(wrong("--restart", text, "only on-failure takes a number of times")),
    };
    if remove && policy != Restart::No {
        return Err(wrong(
            "--restart",
            text,
            "a container with --rm is gone when it has ended; leave one of the two out",
        ));
    }
    Ok(policy)
}

fn ulimit(text: &str) -> Result<(String, u64, u64)> {
    let parse = || {
        let (name, values) = text.split_once('=')?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let number = |t: &str| if t == "-1" || t == "unlimited" { Some(u64::MAX) } else { t.parse().ok() };
        Some((format!("RLIMIT_{}", name.to_ascii_uppercase()), number(soft)?, number(hard)?))
    };
    parse().ok_or_else(|| wrong("--ulimit", text, "give NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:4096"))
}

/// Ports as `-p` names them. Without a port of the host, one that is free now is taken.
fn ports(text: &str) -> Result<Vec<PortMapping>> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let whole = match numbers.rsplit_once(':') {
        None => format!("{}:{numbers}/{protocol}", free_port("")?),
        Some((host, inside)) if host.is_empty() || host.ends_with(':') => {
            let address = host.trim_end_matches(':');
            let prefix = if address.is_empty() { String::new() } else { format!("{address}:") };
            format!("{prefix}{}:{inside}/{protocol}", free_port(address)?)
        }
        Some(_) => text.to_owned(),
    };
    PortMapping::parse(&whole).map_err(|e| {
        // It names what was made of the words; the person knows what they typed.
        let e = e.to_string();
        wrong("--publish", text, e.strip_prefix(&format!("cannot publish {whole:?}: ")).unwrap_or(&e))
    })
}

fn free_port(address: &str) -> Result<u16> {
    let address =
        address.trim_start_matches('[').trim_end_matches(']').parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let listener = TcpListener::bind((address, 0)).context(|| format!("find a free port of {address}"))?;
    Ok(listener.local_addr().context(|| "find a free port".into())?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_all_their_forms() {
        let shown = |text: &str| -> Vec<String> {
            let port = |p: &PortMapping| format!("{:?} {} {}", p.host_ip, p.host_port, p.container_port);
            ports(text).unwrap().iter().map(port).collect()
        };
        assert!(shown("80")[0].starts_with("None ") && shown("80")[0].ends_with(" 80"));
        assert!(shown("127.0.0.1::80")[0].starts_with("Some(127.0.0.1) "));
        assert_eq!(shown("8080:80/udp"), ["None 8080 80"]);
        assert_eq!(shown("127.0.0.1:8080:80"), ["Some(127.0.0.1) 8080 80"]);
        assert_eq!(shown("8000-8001:90-91"), ["None 8000 90", "None 8001 91"]);
        for bad in ["", "0", "65536", "a:80", "80/icmp", "1-2:3", "nowhere:80:80", "2-1"] {
            assert!(ports(bad).unwrap_err().to_string().contains("--publish"), "{bad:?}");
        }
    }

    #[test]
    fn policies_and_limits() {
        assert_eq!(restart("on-failure:3", false).unwrap(), Restart::OnFailure(3));
        assert!(restart("always", true).unwrap_err().to_string().contains("--rm"));
        assert!(restart("sometimes", false).is_err());
        assert_eq!(cpus("1.5").unwrap(), 150_000);
        assert!(cpus("0").is_err());
        assert_eq!(ulimit("nofile=10:20").unwrap(), ("RLIMIT_NOFILE".into(), 10, 20));
        assert!(ulimit("nofile").is_err());
    }
}
