//! What StopContainer sends.

use crate::contract::v1::Signal;

/// The signal as the kernel's number and as CRI's: the configuration's, the image's (`SIGTERM`, `15`, `RTMIN+3`), or
/// SIGTERM.
pub(super) fn stop_signal(asked: Signal, image: Option<&str>) -> (i32, Signal) {
    if let Some(number) = number(asked) {
        return (number, asked);
    }
    // What an image says and no kernel knows is as if it said nothing.
    let image = image.and_then(kernel::signal::parse).filter(|&number| number != 0);
    image.and_then(|number| Some((number, named(number)?))).unwrap_or((15, Signal::Sigterm))
}

/// The names in the order of the kernel's numbers, 1 to 31. (x86, arm64, riscv and s390 have the same.)
const NAMES: [Signal; 31] = {
    use Signal::{
        Sigabrt, Sigalrm, Sigbus, Sigchld, Sigcont, Sigfpe, Sighup, Sigill, Sigint, Sigio, Sigkill, Sigpipe,
        Sigprof, Sigpwr, Sigquit, Sigsegv, Sigstkflt, Sigstop, Sigsys, Sigterm, Sigtrap, Sigtstp, Sigttin,
        Sigttou, Sigurg, Sigusr1, Sigusr2, Sigvtalrm, Sigwinch, Sigxcpu, Sigxfsz,
    };
    [
        Sighup, Sigint, Sigquit, Sigill, Sigtrap, Sigabrt, Sigbus, Sigfpe, Sigkill, Sigusr1, Sigsegv,
        Sigusr2, Sigpipe, Sigalrm, Sigterm, Sigstkflt, Sigchld, Sigcont, Sigstop, Sigtstp, Sigttin, Sigttou,
        Sigurg, Sigxcpu, Sigxfsz, Sigvtalrm, Sigprof, Sigwinch, Sigio, Sigpwr, Sigsys,
    ]
};

/// The kernel's number; none for RUNTIME_DEFAULT.
fn number(signal: Signal) -> Option<i32> {
    let place =
        |signal| NAMES.iter().position(|&name| name == signal).and_then(|at| i32::try_from(at + 1).ok());
    match signal {
        Signal::RuntimeDefault => None,
        Signal::Sigcld => place(Signal::Sigchld),
        Signal::Sigiot => place(Signal::Sigabrt),
        Signal::Sigpoll => place(Signal::Sigio),
        // SIGRTMIN is 34: the C library keeps two to itself. The enum goes on to SIGRTMAX, 64, in steps of one.
        real_time if real_time as i32 >= Signal::Sigrtmin as i32 => {
            Some(real_time as i32 - Signal::Sigrtmin as i32 + 34)
        }
        other => place(other),
    }
}

/// CRI's name of the kernel's number.
fn named(number: i32) -> Option<Signal> {
    match number {
        34.. => Signal::try_from(number - 34 + Signal::Sigrtmin as i32).ok(),
        _ => NAMES.get(usize::try_from(number).ok()?.checked_sub(1)?).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_then_the_image_then_sigterm() {
        let unsaid = Signal::RuntimeDefault;
        assert_eq!(stop_signal(Signal::Sigint, Some("SIGQUIT")), (2, Signal::Sigint));
        assert_eq!(stop_signal(unsaid, Some("SIGQUIT")), (3, Signal::Sigquit));
        assert_eq!(stop_signal(unsaid, Some("37")), (37, Signal::Sigrtminplus3));
        for unknown in [None, Some("SIGNONE"), Some("0"), Some("32")] {
            assert_eq!(stop_signal(unsaid, unknown), (15, Signal::Sigterm));
        }
    }

    #[test]
    fn every_name_has_the_number_that_the_kernel_crate_gives_it() {
        for value in 1..=Signal::Sigrtmax as i32 {
            let signal = Signal::try_from(value).unwrap();
            let text = signal.as_str_name().replace("PLUS", "+").replace("MINUS", "-");
            let number = number(signal).unwrap();
            if let Some(parsed) = kernel::signal::parse(&text) {
                assert_eq!(number, parsed, "{text}");
            }
            assert!(named(number).is_some(), "{text}");
        }
        assert_eq!(number(Signal::Sigrtmaxminus14), Some(50));
        assert_eq!(number(Signal::Sigrtmax), Some(64));
    }
}
