//! Rules for `linux.seccomp`.

use super::super::seccomp::{Action, Seccomp};
use super::{Verdict, broken, text};

/// The largest errno that the kernel returns from a filter.
const MAX_ERRNO: u32 = 4095;

/// Checks a filter; fields are named as in `config.json`.
pub(crate) fn check(seccomp: &Seccomp) -> Verdict {
    errno("linux.seccomp.defaultErrnoRet", seccomp.default_action, seccomp.default_errno_ret)?;
    if seccomp.default_action == Action::Notify {
        let rule = "the runtime's own calls would wait for the agent too; use it in rules";
        return Err(broken("linux.seccomp.defaultAction", &seccomp.default_action, rule));
    }
    text("linux.seccomp.listenerPath", &seccomp.listener_path)?;
    if seccomp.listener_path.is_empty() && !seccomp.listener_metadata.is_empty() {
        let rule = "goes to a listener; set listenerPath or remove it";
        return Err(broken("linux.seccomp.listenerMetadata", &seccomp.listener_metadata, rule));
    }
    for (i, rule) in seccomp.syscalls.iter().enumerate() {
        let field = format!("linux.seccomp.syscalls[{i}]");
        if rule.names.is_empty() || rule.names.iter().any(String::is_empty) {
            return Err(broken(
                &format!("{field}.names"),
                &rule.names,
                "must name a call; add one or remove the rule",
            ));
        }
        errno(&format!("{field}.errnoRet"), rule.action, rule.errno_ret)?;
        for (j, arg) in rule.args.iter().enumerate() {
            if arg.index > 5 {
                let rule = "a call has six arguments, 0 to 5";
                return Err(broken(&format!("{field}.args[{j}].index"), &arg.index, rule));
            }
        }
        if rule.action == Action::Notify {
            notify(seccomp, &rule.names, &field)?;
        }
    }
    Ok(())
}

/// The runtime hands the listener over after the filter is on, with the call that would then wait for it.
fn notify(seccomp: &Seccomp, names: &[String], field: &str) -> Verdict {
    if seccomp.listener_path.is_empty() {
        let rule = "SCMP_ACT_NOTIFY needs an agent; set listenerPath to its socket";
        return Err(broken("linux.seccomp.listenerPath", "", rule));
    }
    // `write` is the usual runtimes' word, `sendmsg` ours.
    match names.iter().find(|name| matches!(name.as_str(), "write" | "sendmsg")) {
        None => Ok(()),
        Some(name) => {
            let rule = format!(
                "SCMP_ACT_NOTIFY cannot be used for the {name} syscall: with it runtimes hand the listener over; \
                 remove it"
            );
            Err(broken(&format!("{field}.names"), name, rule))
        }
    }
}

fn errno(field: &str, action: Action, errno: Option<u32>) -> Verdict {
    let Some(value) = errno else { return Ok(()) };
    if !action.takes_errno() {
        let rule = "only SCMP_ACT_ERRNO and SCMP_ACT_TRACE carry one; remove it or change the action";
        return Err(broken(field, &value, rule));
    }
    let max = if action == Action::Errno { MAX_ERRNO } else { u32::from(u16::MAX) };
    if value > max {
        return Err(broken(field, &value, format!("must be at most {max}")));
    }
    Ok(())
}
