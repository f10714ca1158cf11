//! Where credentials come from: the first place that has been set up, as AWS' own tools look for them.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Credentials, container, metadata, sts};
use crate::api::Exchange;
use crate::config::ini::Section;
use crate::config::{Config, Environment};

/// Profiles may name each other so often.
const DEEPEST: u32 = 5;

/// A place.
#[derive(Debug)]
pub(super) enum Source {
    /// They are known, and never expire.
    Known(Credentials, String),
    /// A token in a file is exchanged for those of a role.
    WebIdentity { role: String, file: PathBuf, session: String },
    /// Others may take on a role.
    Role { role: String, external_id: Option<String>, session: String, base: Box<Self> },
    /// The agent of a container's host tells them.
    Container(container::Place),
    /// The metadata service of the instance does.
    Instance,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(_, place) => f.write_str(place),
            Self::WebIdentity { role, file, .. } => {
                write!(f, "role {role} by the token in {}", file.display())
            }
            Self::Role { role, base, .. } => write!(f, "role {role}, taken on by {base}"),
            Self::Container(place) => {
                write!(f, "the agent at {}", place.url.authority().map_or("", |one| one.as_str()))
            }
            Self::Instance => f.write_str("this instance's role, by its metadata service"),
        }
    }
}

impl Source {
    pub(super) async fn fetch(&self, exchange: &Exchange, region: &str) -> Result<Credentials, String> {
        match self {
            Self::Known(credentials, _) => Ok(credentials.clone()),
            Self::WebIdentity { role, file, session } => {
                sts::by_token(exchange, region, role, file, session).await
            }
            Self::Role { role, external_id, session, base } => {
                let base = Box::pin(base.fetch(exchange, region)).await?;
                sts::by_others(exchange, region, role, external_id.as_deref(), session, &base).await
            }
            Self::Container(place) => container::fetch(exchange, place).await,
            Self::Instance => metadata::credentials(exchange).await.map_err(|why| {
                format!(
                    "{why}; none are set either by AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE, a profile or \
                     AWS_CONTAINER_CREDENTIALS_FULL_URI"
                )
            }),
        }
    }
}

/// Finds the place.
pub(super) fn select(environment: &Environment, config: &Config) -> Result<Source, String> {
    let base = base(environment)?;
    let session = session(environment);
    Ok(match &config.role {
        Some(role) => Source::Role { role: role.clone(), external_id: None, session, base: Box::new(base) },
        None => base,
    })
}

fn session(environment: &Environment) -> String {
    environment.get("AWS_ROLE_SESSION_NAME").unwrap_or("sextant-control").into()
}

fn base(environment: &Environment) -> Result<Source, String> {
    if let Some(known) = variables(environment)? {
        return Ok(known);
    }
    if let Some(file) = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE") {
        let role = environment
            .get("AWS_ROLE_ARN")
            .ok_or("AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not: set the role to take on")?;
        let session = session(environment);
        return Ok(Source::WebIdentity { role: role.into(), file: file.into(), session });
    }
    let (name, is_asked_for) = environment.profile();
    match of_profile(environment, name, DEEPEST)? {
        Some(found) => return Ok(found),
        None if is_asked_for => {
            return Err(format!(
                "profile {name}, which AWS_PROFILE names, has no credentials, or is not there"
            ));
        }
        None => {}
    }
    if let Some(place) = container::Place::of(environment)? {
        return Ok(Source::Container(place));
    }
    Ok(Source::Instance)
}

fn variables(environment: &Environment) -> Result<Option<Source>, String> {
    match (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")) {
        (None, None) => Ok(None),
        (Some(key), Some(secret)) => {
            let mut known = Credentials::new(key, secret);
            known.token = environment.get("AWS_SESSION_TOKEN").map(str::to_owned);
            Ok(Some(Source::Known(known, "the environment".into())))
        }
        (Some(_), None) => Err("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not: set both".into()),
        (None, Some(_)) => Err("AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not: set both".into()),
    }
}

/// `None` where there is no such profile, or one without credentials.
fn of_profile(environment: &Environment, name: &str, deep: u32) -> Result<Option<Source>, String> {
    let wrong = |why: &str| format!("profile {name}: {why}");
    if deep == 0 {
        return Err(wrong("source_profile goes in circles, or is too deep"));
    }
    let Some(settings) = environment.settings(name)? else { return Ok(None) };
    if let Some(role) = settings.get("role_arn") {
        return role_of_profile(environment, name, &settings, role, deep).map(Some);
    }
    if let Some(known) = keys(&settings, name)? {
        return Ok(Some(known));
    }
    for key in ["credential_process", "sso_session", "sso_start_url"] {
        if settings.get(key).is_some() {
            return Err(wrong(&format!(
                "{key} is not supported: use keys, role_arn with web_identity_token_file, or the instance's role"
            )));
        }
    }
    Ok(None)
}

fn keys(settings: &Section, name: &str) -> Result<Option<Source>, String> {
    match (settings.get("aws_access_key_id"), settings.get("aws_secret_access_key")) {
        (None, None) => Ok(None),
        (Some(key), Some(secret)) => {
            let mut known = Credentials::new(key, secret);
            known.token = settings.get("aws_session_token").map(str::to_owned);
            Ok(Some(Source::Known(known, format!("profile {name}"))))
        }
        _ => Err(format!("profile {name}: aws_access_key_id and aws_secret_access_key must both be set")),
    }
}

fn role_of_profile(
    environment: &Environment,
    name: &str,
    settings: &Section,
    role: &str,
    deep: u32,
) -> Result<Source, String> {
    let wrong = |why: String| format!("profile {name}: {why}");
    let session = settings.get("role_session_name").map_or_else(|| session(environment), str::to_owned);
    if settings.get("mfa_serial").is_some() {
        return Err(wrong("mfa_serial is not supported: nobody is there to be asked".into()));
    }
    if let Some(file) = settings.get("web_identity_token_file") {
        return Ok(Source::WebIdentity { role: role.into(), file: Path::new(file).into(), session });
    }
    let base = match (settings.get("source_profile"), settings.get("credential_source")) {
        (Some(other), None) if other == name => keys(settings, name)?,
        (Some(other), None) => of_profile(environment, other, deep - 1)?,
        (None, Some("Environment")) => variables(environment)?,
        (None, Some("Ec2InstanceMetadata")) => Some(Source::Instance),
        (None, Some("EcsContainer")) => container::Place::of(environment)?.map(Source::Container),
        (None, Some(other)) => {
            return Err(wrong(format!(
                "credential_source {other:?} is none of Environment, Ec2InstanceMetadata and EcsContainer"
            )));
        }
        _ => {
            return Err(wrong(
                "role_arn needs one of source_profile, credential_source and web_identity_token_file".into(),
            ));
        }
    };
    let base = base.ok_or_else(|| wrong("who takes on its role has no credentials".into()))?;
    let external_id = settings.get("external_id").map(str::to_owned);
    Ok(Source::Role { role: role.into(), external_id, session, base: Box::new(base) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)], config: &str, credentials: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        std::fs::write(dir.path().join(".aws/config"), config).unwrap();
        std::fs::write(dir.path().join(".aws/credentials"), credentials).unwrap();
        let home = ("HOME", dir.path().to_str().unwrap());
        let environment = variables.iter().copied().chain([home]).collect();
        select(&environment, &Config::default()).map(|source| source.to_string())
    }

    #[test]
    fn the_first_place_that_is_set_up() {
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "hush")];
        let profile = "[default]\naws_access_key_id = a\naws_secret_access_key = hush\n";
        assert_eq!(of(&keys, "", profile).unwrap(), "the environment");
        let token = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "arn:x")];
        assert_eq!(of(&token, "", profile).unwrap(), "role arn:x by the token in /t");
        assert_eq!(of(&[], "", profile).unwrap(), "profile default");
        let agent = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")];
        assert_eq!(of(&agent, "", "").unwrap(), "the agent at 169.254.170.23");
        assert_eq!(
            of(&[], "[default]\nregion = x\n", "").unwrap(),
            "this instance's role, by its metadata service"
        );
    }

    #[test]
    fn roles_of_profiles() {
        let config = "[profile a]\nrole_arn = arn:a\nsource_profile = b\n[profile b]\nrole_arn = arn:b\ncredential_source = Ec2InstanceMetadata\n";
        assert_eq!(
            of(&[("AWS_PROFILE", "a")], config, "").unwrap(),
            "role arn:a, taken on by role arn:b, taken on by this instance's role, by its metadata service"
        );
    }

    #[test]
    fn what_is_wrong_is_named_without_secrets() {
        let circle =
            "[profile a]\nrole_arn = x\nsource_profile = b\n[profile b]\nrole_arn = y\nsource_profile = a\n";
        for (variables, config, told) in [
            (&[("AWS_ACCESS_KEY_ID", "hush")][..], "", "AWS_SECRET_ACCESS_KEY is not: set both"),
            (&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")], "", "AWS_ROLE_ARN is not"),
            (&[("AWS_PROFILE", "none")], "", "profile none, which AWS_PROFILE names"),
            (&[("AWS_PROFILE", "a")], circle, "goes in circles"),
            (&[], "[default]\ncredential_process = /bin/x\n", "credential_process is not supported"),
            (&[], "[default]\naws_secret_access_key = hush\n", "must both be set"),
            (&[], "[default]\nrole_arn = x\n", "role_arn needs one of"),
            (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/")], "", "must be https"),
        ] {
            let error = of(variables, config, "").unwrap_err();
            assert!(error.contains(told) && !error.contains("hush"), "{error}");
        }
    }
}
