use std::path::PathBuf;
use std::time::Duration;

use super::super::SOCKET;
use super::super::client::Patience;

/// What a daemon is told, in the reference daemon's words.
#[derive(Debug, Clone)]
pub(super) struct Flags {
    pub(super) pidfile: Option<PathBuf>,
    /// Put before the socket's path and those of namespaces: where a container sees the host's files.
    pub(super) host_prefix: String,
    pub(super) socket: String,
    pub(super) patience: Patience,
}

pub(super) const USAGE: &str = "usage: dhcp daemon [FLAGS]
  -pidfile PATH          where to write the process's number
  -hostprefix PATH       put before the paths of the socket and of network namespaces
  -socketpath PATH       where to listen (/run/cni/dhcp.sock)
  -broadcast             servers shall broadcast their answers
  -timeout TIME          before a message is repeated for the first time, at most (10s)
  -resendmax TIME        between repetitions, at most (62s)
  -resendtimeout TIME    for all tries to get a lease (208s)";

impl Flags {
    /// Reads flags as Go programs do: one dash or two, the value behind `=` or next.
    pub(super) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let second = Duration::from_secs;
        let patience = Patience {
            timeout: second(10),
            resend_max: second(62),
            resend_timeout: second(208),
            broadcast: false,
        };
        let mut flags = Self { pidfile: None, host_prefix: String::new(), socket: SOCKET.into(), patience };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let name = name
                .filter(|name| !name.is_empty())
                .ok_or_else(|| format!("cannot use {arg:?}: it is no flag"))?;
            let (name, given) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            if name == "broadcast" {
                flags.patience.broadcast =
                    given.is_none_or(|value| matches!(value.as_str(), "true" | "1" | "t"));
                continue;
            }
            if matches!(name, "h" | "help") {
                return Err(USAGE.into());
            }
            let mut value = || {
                given
                    .clone()
                    .or_else(|| args.next())
                    .ok_or_else(|| format!("cannot use -{name}: it needs a value"))
            };
            match name {
                "pidfile" => {
                    flags.pidfile =
                        Some(value()?.into()).filter(|path: &PathBuf| !path.as_os_str().is_empty())
                }
                "hostprefix" => flags.host_prefix = value()?,
                "socketpath" => {
                    flags.socket = Some(value()?).filter(|path| !path.is_empty()).unwrap_or(SOCKET.into())
                }
                "timeout" => flags.patience.timeout = time(name, &value()?)?,
                "resendmax" => flags.patience.resend_max = time(name, &value()?)?,
                "resendtimeout" => flags.patience.resend_timeout = time(name, &value()?)?,
                _ => return Err(format!("cannot use -{name}: there is no such flag\n{USAGE}")),
            }
        }
        match &flags.pidfile {
            Some(path) if !path.is_absolute() => {
                Err(format!("cannot use -pidfile {}: the path is not absolute", path.display()))
            }
            _ => Ok(flags),
        }
    }
}

/// A time as Go writes it: `1m30s`, `1.5s`, `300ms`.
fn time(name: &str, text: &str) -> Result<Duration, String> {
    let wanted =
        || format!("cannot use -{name} {text:?}: it is no time from 1ms to 1000h, such as 10s or 1m30s");
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wanted)?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wanted()),
        };
        total += number.parse::<f64>().map_err(|_| wanted())? * seconds;
        rest = behind;
    }
    if (1e-3..=3.6e6).contains(&total) { Ok(Duration::from_secs_f64(total)) } else { Err(wanted()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Flags, String> {
        Flags::parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn flags_as_go_reads_them() {
        let flags = parse(&[
            "-timeout",
            "2s",
            "--resendmax=1m30s",
            "-broadcast",
            "-socketpath=/a",
            "--pidfile",
            "/p",
        ])
        .unwrap();
        assert_eq!(
            (flags.patience.timeout, flags.patience.resend_max),
            (Duration::from_secs(2), Duration::from_secs(90))
        );
        assert!(flags.patience.broadcast && flags.socket == "/a" && flags.pidfile == Some("/p".into()));
        assert_eq!(parse(&["-timeout", "0.25s"]).unwrap().patience.timeout, Duration::from_millis(250));
        for bad in [
            &["-timeout"][..],
            &["-timeout", "2"],
            &["-timeout", "s"],
            &["-timeout", "0s"],
            &["-timeout", "9e9h"],
            &["x"],
            &["-x"],
            &["-"],
            &["-pidfile", "p"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
