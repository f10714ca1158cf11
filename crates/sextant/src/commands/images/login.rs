use std::io::{self, IsTerminal, Read};

use oci_image::registry::client::{Error, Login};

use super::{password, source};
use crate::cli::{LoginArgs, LogoutArgs};
use crate::failure::{Failure, Result};

/// The most a password may have, in bytes.
const PASSWORD_MAX: u64 = 64 << 10;

/// `sextant login`: asks the registry whether it accepts user and password, and keeps them.
pub(crate) fn login(args: &LoginArgs) -> Result<()> {
    let username = match &args.username {
        Some(username) => username.clone(),
        None if args.password_stdin => {
            return Err(Failure::new("cannot log in: --password-stdin needs --username"));
        }
        None => password::ask("Username")?,
    };
    if username.is_empty() {
        return Err(Failure::new("cannot log in: the user name is empty"));
    }
    let password = match &args.password {
        Some(password) => {
            eprintln!("sextant: warning: others on this machine can see --password; use --password-stdin");
            password.clone()
        }
        None if args.password_stdin => from_stdin()?,
        None => password::ask_hidden("Password")?,
    };
    if password.is_empty() {
        return Err(Failure::new("cannot log in: the password is empty"));
    }
    let client = source::client(args.plain_http, None)?;
    let (login, place) =
        client.login(&args.registry, &username, &password).map_err(|error| refused(&args.registry, error))?;
    match login {
        Login::Accepted => println!("logged in to {} as {username}; kept in {place}", args.registry),
        Login::NotNeeded => {
            println!("{} asks for no credentials; kept in {place} all the same", args.registry)
        }
    }
    Ok(())
}

/// `sextant logout`.
pub(crate) fn logout(args: &LogoutArgs) -> Result<()> {
    match source::client(false, None)?.logout(&args.registry)? {
        true => println!("credentials for {} removed", args.registry),
        false => println!("there are no credentials for {}", args.registry),
    }
    Ok(())
}

/// A refusal of the registry means the credentials here, whatever it says to others.
fn refused(registry: &str, error: Error) -> Failure {
    let denied = match &error {
        Error::Token { transient, .. } => !transient,
        other => matches!(other.status(), Some(401 | 403)),
    };
    match denied {
        true => Failure::new(format!(
            "cannot log in to {registry}: it does not accept this user and password (some registries want an access \
             token for a password): {error}"
        )),
        false => error.into(),
    }
}

/// All of standard input but the last line end, as `echo` writes it.
fn from_stdin() -> Result<String> {
    if io::stdin().is_terminal() {
        return Err(Failure::new(
            "cannot read the password: standard input is a terminal; leave --password-stdin away",
        ));
    }
    let mut text = String::new();
    io::stdin().take(PASSWORD_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > PASSWORD_MAX {
        return Err(Failure::new(format!("cannot use the password: it is longer than {PASSWORD_MAX} bytes")));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
