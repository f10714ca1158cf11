//! What is run, and where: the command and the working directory.

use oci_image::contract::ImageConfig;

use crate::contract::Error;
use crate::contract::v1::ContainerConfig;

/// All of `argv`. A command sets the image's entry point and command aside; arguments alone replace the image's command.
pub(super) fn args(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, Error> {
    let mut args = config.command.clone();
    if args.is_empty() {
        let entrypoint = image.config.entrypoint.clone().unwrap_or_default();
        // Docker's way to write none over that of a base image.
        args = if entrypoint == [""] { Vec::new() } else { entrypoint };
        if config.args.is_empty() {
            args.extend(image.config.cmd.clone().unwrap_or_default());
        }
    }
    args.extend(config.args.iter().cloned());
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid(
            "config.command",
            "no command specified, and the image names none: give one",
        ));
    }
    // Those of the request have none.
    if let Some(word) = args.iter().find(|word| word.contains('\0')) {
        let rule = "has a zero byte, at which the kernel would cut it: give a command";
        return Err(Error::invalid("config.command", format!("the image's {word:?} {rule}")));
    }
    Ok(args)
}

/// The working directory: the configuration's, the image's, or the root.
pub(super) fn working_dir(config: &ContainerConfig, image: &ImageConfig) -> String {
    match (config.working_dir.as_str(), image.config.working_dir.as_str()) {
        ("", "") => "/".into(),
        // Some builders write it as the Dockerfile has it, from the root.
        ("", dir) if !dir.starts_with('/') => format!("/{dir}"),
        ("", dir) | (dir, _) => dir.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::container::spec::tests::image;

    fn words(text: &str) -> Vec<String> {
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    fn of(command: &str, given: &str, entrypoint: &[&str], cmd: &str) -> Result<Vec<String>, Error> {
        let config =
            ContainerConfig { command: words(command), args: words(given), ..ContainerConfig::default() };
        let mut image = image();
        image.config.entrypoint = Some(entrypoint.iter().map(ToString::to_string).collect());
        image.config.cmd = Some(words(cmd));
        args(&config, &image)
    }

    #[test]
    fn a_command_replaces_all_and_arguments_the_images_command() {
        assert_eq!(of("c", "", &["e"], "i").unwrap(), ["c"]);
        assert_eq!(of("c", "a b", &["e"], "i").unwrap(), ["c", "a", "b"]);
        assert_eq!(of("", "a", &["e"], "i").unwrap(), ["e", "a"]);
        assert_eq!(of("", "", &["e"], "i").unwrap(), ["e", "i"]);
        assert_eq!(of("", "", &[""], "i").unwrap(), ["i"]);
        assert_eq!(of("", "a", &[""], "i").unwrap(), ["a"]);
        assert_eq!(of("", "", &[], "").unwrap_err().field.as_deref(), Some("config.command"));
    }

    #[test]
    fn words_that_the_kernel_would_cut_are_refused() {
        assert_eq!(of("", "", &["e\0"], "").unwrap_err().field.as_deref(), Some("config.command"));
    }

    #[test]
    fn the_working_directory_is_absolute() {
        let mut image = image();
        let mut config = ContainerConfig::default();
        assert_eq!(working_dir(&config, &image), "/");
        image.config.working_dir = "srv".into();
        assert_eq!(working_dir(&config, &image), "/srv");
        config.working_dir = "/w".into();
        assert_eq!(working_dir(&config, &image), "/w");
    }
}
