//! What went through a pod's network interfaces.

use std::fs;
use std::path::Path;

/// One interface's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received: Direction,
    pub(crate) sent: Direction,
}

/// One direction of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Direction {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) dropped: u64,
}

/// The interfaces but loopback, as the process `pid` sees them: no thread has to enter its namespace.
pub(crate) fn of_process(pid: i32) -> Option<Vec<Interface>> {
    fs::read_to_string(format!("/proc/{pid}/net/dev")).ok().map(|text| parse(&text))
}

/// The same for a pod without processes.
pub(crate) fn of_namespace(netns: &Path) -> Option<Vec<Interface>> {
    let file = fs::File::open(netns).ok()?;
    let text =
        kernel::namespace::in_netns(&file, || Ok(fs::read_to_string("/proc/thread-self/net/dev"))).ok()?;
    Some(parse(&text.ok()?))
}

/// `/proc/net/dev`: two lines of headings, then `name: received (8 numbers) sent (8 numbers)`.
fn parse(text: &str) -> Vec<Interface> {
    let one = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
        let direction = |at: usize| {
            let [bytes, packets, errors, dropped] = *numbers.get(at..at + 4)? else { return None };
            Some(Direction { bytes, packets, errors, dropped })
        };
        let (received, sent) = (direction(0)?, direction(8)?);
        Some(Interface { name: name.trim().to_owned(), received, sent })
    };
    text.lines().filter_map(one).filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
             lo:       5       1    0    0    0     0          0         0        5       1    0    0    0     0       0          0\n  \
             eth0: 1296      15    1    2    0     0          0         0      446       7    3    4    0     0       0          0\n";
        let all = parse(text);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].name, "eth0");
        assert_eq!(all[0].received, Direction { bytes: 1296, packets: 15, errors: 1, dropped: 2 });
        assert_eq!(all[0].sent, Direction { bytes: 446, packets: 7, errors: 3, dropped: 4 });
    }
}
