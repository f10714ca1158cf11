//! What a child does before it executes its program.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Has what `command` starts killed when the thread that starts it ends: with this process, whatever ends it
/// (`PR_SET_PDEATHSIG`). For a thread that waits for its child.
pub fn dies_with_thread(command: &mut Command) {
    let parent = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A parent that ended before the wish was heard is not told of.
        if getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec `ask` makes two system calls and allocates nothing; an `io::Error` of an errno holds no
    // memory either.
    unsafe { command.pre_exec(ask) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_child_ends_with_the_thread_that_started_it() {
        let mut child = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            command.arg("60");
            dies_with_thread(&mut command);
            command.spawn().expect("sleep starts")
        })
        .join()
        .expect("the thread ends");
        let until = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = child.try_wait().expect("it is ours") {
                break status;
            }
            assert!(Instant::now() < until, "it lives on");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
}
