//! The properties of a container's unit (systemd.resource-control(5), systemd.scope(5)).

use kernel::cgroup::{Layout, Limits, weight_of_shares};

use super::Unit;
use super::dbus::{Type, Value};
use super::devices::{self, Policy};

/// A property of a unit and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// As D-Bus has it: `MemoryMax`.
    pub name: String,
    /// Its value.
    pub value: Value,
}

fn property(name: &str, value: Value) -> Property {
    Property { name: name.to_owned(), value }
}

/// "infinity"
const NO_LIMIT: u64 = u64::MAX;

/// Properties as calls take them: `a(sv)`.
pub(super) fn list(properties: &[Property]) -> Value {
    let pair =
        |p: &Property| Value::Struct(vec![Value::text(&p.name), Value::Variant(Box::new(p.value.clone()))]);
    Value::array(Type::Struct(vec![Type::String, Type::Variant]), properties.iter().map(pair))
}

/// What a container's unit is, whatever its limits: `pid` is its first process.
pub fn of_unit(unit: &Unit, description: &str, pid: i32, layout: Layout) -> Vec<Property> {
    let io = if layout == Layout::Unified { "IOAccounting" } else { "BlockIOAccounting" };
    let mut properties = vec![property("Description", Value::text(description))];
    if unit.is_slice() {
        // It has its place by its name, and takes no processes by this way.
        properties.push(property("Wants", Value::array(Type::String, [Value::text(&unit.slice)])));
    } else {
        properties.push(property("Slice", Value::text(&unit.slice)));
        properties.push(property("Delegate", Value::Bool(true)));
        properties.push(property("PIDs", Value::array(Type::U32, [Value::U32(pid.unsigned_abs())])));
    }
    let accounting = ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"];
    properties.extend(accounting.map(|name| property(name, Value::Bool(true))));
    properties.push(property("DefaultDependencies", Value::Bool(false)));
    properties
}

/// The limits that systemd has properties for. `version` is systemd's, where it is known.
///
/// Said so that systemd does not write others over them, when it is told of any change to the unit or reads its
/// configuration anew.
pub fn of_limits(limits: &Limits, layout: Layout, version: Option<u32>) -> Vec<Property> {
    let mut properties = Vec::new();
    let v2 = layout == Layout::Unified;
    device_properties(limits, v2, &mut properties);
    let mut put = |name: &str, value: Option<u64>| {
        properties.extend(value.map(|value| property(name, Value::U64(value))));
    };
    put(if v2 { "MemoryMax" } else { "MemoryLimit" }, limits.memory.and_then(amount));
    if v2 {
        put("MemoryLow", limits.memory_reservation.and_then(amount));
        put("MemorySwapMax", swap(limits));
        let weight = limits.cpu_shares.filter(|&shares| shares != 0).map(weight_of_shares);
        put("CPUWeight", weight.filter(|_| limits.cpu_idle != Some(true)));
        put("IOWeight", limits.io_weight.filter(|&weight| weight != 0).map(kernel::cgroup::weight_of_io));
        if limits.cpu_idle == Some(true) && version.is_some_and(|version| version >= 252) {
            // What the version before does not know it does not overwrite either: the kernel refuses a weight then.
            put("CPUWeight", Some(0));
        }
    } else {
        put("CPUShares", limits.cpu_shares.filter(|&shares| shares != 0));
        put("BlockIOWeight", limits.io_weight.filter(|&weight| weight != 0).map(u64::from));
    }
    // With 0 the first process runs and nothing can be forked: the cgroup has 1 then.
    put("TasksMax", limits.pids.and_then(|pids| amount(pids.max(-1)).or(Some(1))));
    quota(limits.cpu_quota.unwrap_or(0), limits.cpu_period.unwrap_or(0), &mut put);
    if v2 {
        put_bits("AllowedCPUs", limits.cpus.as_deref(), &mut properties);
        put_bits("AllowedMemoryNodes", limits.mems.as_deref(), &mut properties);
        limits.unified.iter().for_each(|(file, value)| unified(file, value.trim(), &mut properties));
    }
    properties
}

fn device_properties(limits: &Limits, v2: bool, properties: &mut Vec<Property>) {
    if limits.devices.is_empty() {
        return;
    }
    let (policy, allowed) = match devices::policy(&limits.devices) {
        // On v1 systemd would take the container out of the hierarchy of devices: it needs none for that.
        Policy::Auto if !v2 => return,
        Policy::Auto => ("auto", Vec::new()),
        Policy::Strict(list) => ("strict", list),
    };
    let kind = Type::Struct(vec![Type::String, Type::String]);
    let entry =
        |(node, access): (String, String)| Value::Struct(vec![Value::text(node), Value::text(access)]);
    properties.push(property("DevicePolicy", Value::text(policy)));
    // An empty list takes away what was allowed before.
    properties.push(property("DeviceAllow", Value::array(kind.clone(), [])));
    if !allowed.is_empty() {
        properties.push(property("DeviceAllow", Value::array(kind, allowed.into_iter().map(entry))));
    }
}

/// A limit of the specification: negative is none, and 0 is not set.
fn amount(limit: i64) -> Option<u64> {
    match limit {
        0 => None,
        limit => Some(u64::try_from(limit).unwrap_or(NO_LIMIT)),
    }
}

/// The specification counts memory and swap together, systemd as the kernel swap alone. What makes no sense is for the
/// write to the cgroup to refuse.
fn swap(limits: &Limits) -> Option<u64> {
    match (limits.memory_swap?, limits.memory) {
        (0, _) => None,
        (both, _) if both < 0 => Some(NO_LIMIT),
        (both, Some(memory)) if memory > 0 => u64::try_from(both - memory).ok(),
        _ => None,
    }
}

/// CPU time a second, in microseconds. systemd keeps it in whole percents: rounded up, since what is below the unit may
/// not be given more than it.
fn quota(quota: i64, period: u64, put: &mut impl FnMut(&str, Option<u64>)) {
    const DEFAULT_PERIOD: u64 = 100_000;
    const PERCENT: u128 = 10_000;
    put("CPUQuotaPeriodUSec", Some(period).filter(|&period| period != 0));
    if quota == 0 && period == 0 {
        return;
    }
    let period = if period == 0 { DEFAULT_PERIOD } else { period };
    let a_second = u128::try_from(quota).ok().filter(|&quota| quota > 0).map(|quota| {
        let micros = (quota * 1_000_000 / u128::from(period)).next_multiple_of(PERCENT);
        u64::try_from(micros).unwrap_or(NO_LIMIT)
    });
    put("CPUQuotaPerSecUSec", Some(a_second.unwrap_or(NO_LIMIT)));
}

fn put_bits(name: &str, list: Option<&str>, properties: &mut Vec<Property>) {
    let Some(bits) = list.and_then(bits) else { return };
    properties.push(property(name, Value::array(Type::Byte, bits.into_iter().map(Value::Byte))));
}

/// A list of numbers (`0-2,7`) as bits, the lowest first. What is no list is for the write to the cgroup to refuse.
fn bits(list: &str) -> Option<Vec<u8>> {
    /// More CPUs than a kernel can be built for.
    const MOST: usize = 8192;
    let mut bits = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        if bits.len() <= last / 8 {
            bits.resize(last / 8 + 1, 0_u8);
        }
        (first..=last).for_each(|n| bits[n / 8] |= 1 << (n % 8));
    }
    (!bits.is_empty()).then_some(bits)
}

/// A file of `resources.unified`, if systemd has a property for it. What does not read as the file's value is for the
/// kernel to refuse.
fn unified(file: &str, value: &str, properties: &mut Vec<Property>) {
    let name = match file {
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "io.weight" => "IOWeight",
        "cpuset.cpus" => return put_bits("AllowedCPUs", Some(value), properties),
        "cpuset.mems" => return put_bits("AllowedMemoryNodes", Some(value), properties),
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let first = match words.next() {
                Some("max") => Some(-1),
                number => number.and_then(|n| n.parse().ok()),
            };
            let period = words.next().map_or(Some(100_000), |n| n.parse().ok());
            if let (Some(first), Some(period)) = (first, period) {
                quota(first, period, &mut |name, value| {
                    properties.extend(value.map(|value| property(name, Value::U64(value))));
                });
            }
            return;
        }
        _ => return,
    };
    let number =
        if value == "max" { Some(NO_LIMIT) } else { value.trim_start_matches("default ").parse().ok() };
    properties.extend(number.map(|number| property(name, Value::U64(number))));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(properties: &[Property]) -> Vec<String> {
        let show = |value: &Value| match value {
            Value::U64(NO_LIMIT) => "infinity".to_owned(),
            Value::U64(n) => n.to_string(),
            Value::Array(_, list) => format!("{list:?}"),
            other => format!("{other:?}"),
        };
        properties.iter().map(|p| format!("{}={}", p.name, show(&p.value))).collect()
    }

    fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    }

    #[test]
    fn limits_are_properties_of_v2() {
        let limits = limits(|l| {
            l.memory = Some(64 << 20);
            l.memory_swap = Some(80 << 20);
            l.memory_reservation = Some(1 << 20);
            l.cpu_shares = Some(1024);
            l.cpu_quota = Some(12_345);
            l.cpu_period = Some(50_000);
            l.pids = Some(-1);
            l.io_weight = Some(1000);
            l.cpus = Some("0-2,9".into());
        });
        assert_eq!(
            shown(&of_limits(&limits, Layout::Unified, None)),
            [
                "MemoryMax=67108864",
                "MemoryLow=1048576",
                "MemorySwapMax=16777216",
                "CPUWeight=100",
                "IOWeight=10000",
                "TasksMax=infinity",
                "CPUQuotaPeriodUSec=50000",
                "CPUQuotaPerSecUSec=250000",
                "AllowedCPUs=[Byte(7), Byte(2)]",
            ]
        );
    }

    #[test]
    fn limits_are_properties_of_v1() {
        let limits = limits(|l| {
            l.memory = Some(-1);
            l.cpu_shares = Some(512);
            l.cpu_quota = Some(-1);
            l.io_weight = Some(300);
            l.cpus = Some("0".into());
            l.unified = vec![("memory.high".into(), "1".into())];
        });
        assert_eq!(
            shown(&of_limits(&limits, Layout::Legacy, None)),
            ["MemoryLimit=infinity", "CPUShares=512", "BlockIOWeight=300", "CPUQuotaPerSecUSec=infinity"]
        );
    }

    #[test]
    fn unified_files_are_properties_where_there_are_any() {
        let files = [
            ("cpu.max", "max"),
            ("cpu.max", "20000 40000"),
            ("memory.high", "max"),
            ("pids.max", "7"),
            ("memory.oom.group", "1"),
            ("memory.low", "nonsense"),
            ("cpuset.mems", "0"),
        ];
        let limits =
            limits(|l| l.unified = files.map(|(file, value)| (file.to_owned(), value.to_owned())).to_vec());
        assert_eq!(
            shown(&of_limits(&limits, Layout::Unified, None)),
            [
                "CPUQuotaPeriodUSec=100000",
                "CPUQuotaPerSecUSec=infinity",
                "CPUQuotaPeriodUSec=40000",
                "CPUQuotaPerSecUSec=500000",
                "MemoryHigh=infinity",
                "TasksMax=7",
                "AllowedMemoryNodes=[Byte(1)]",
            ]
        );
    }

    #[test]
    fn idle_is_a_weight_of_0_for_a_systemd_that_knows_it() {
        let limits = limits(|l| {
            l.cpu_idle = Some(true);
            l.cpu_shares = Some(1024);
        });
        assert_eq!(shown(&of_limits(&limits, Layout::Unified, Some(252))), ["CPUWeight=0"]);
        assert!(of_limits(&limits, Layout::Unified, Some(251)).is_empty());
    }

    #[test]
    fn what_is_not_limited_is_not_said() {
        assert!(of_limits(&Limits::default(), Layout::Unified, None).is_empty());
        let nothing = limits(|l| {
            l.memory = Some(0);
            l.memory_swap = Some(10);
            l.cpu_quota = Some(0);
            l.cpus = Some("7-3".into());
        });
        assert!(of_limits(&nothing, Layout::Unified, None).is_empty());
    }

    #[test]
    fn a_slice_takes_no_process() {
        let names = |unit: &Unit| {
            let all = of_unit(unit, "i", 7, Layout::Unified);
            all.into_iter().map(|p| p.name).collect::<Vec<_>>()
        };
        let scope = names(&Unit::parse("a.slice:b:c", "i", false).unwrap());
        assert!(
            ["Slice", "Delegate", "PIDs"].iter().all(|name| scope.iter().any(|n| n == name)),
            "{scope:?}"
        );
        let slice = names(&Unit::parse("a.slice:b:a-c.slice", "i", false).unwrap());
        assert!(
            !slice.iter().any(|n| n == "PIDs" || n == "Slice") && slice.contains(&"Wants".to_owned()),
            "{slice:?}"
        );
    }
}
