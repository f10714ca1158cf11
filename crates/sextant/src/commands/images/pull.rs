use std::time::Duration;

use oci_image::contract::Platform;
use oci_image::pull::{Options, PullReport, Stage};
use oci_image::reference::Reference;
use oci_image::store::{Image, Store};
use serde_json::{Value, json};

use super::source;
use crate::cli::PullArgs;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;
use crate::output;
use crate::output::progress::Transfer;

/// How to fetch an image.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FetchOptions<'a> {
    /// http, not https.
    pub(crate) plain_http: bool,
    /// Another platform than this machine's.
    pub(crate) platform: Option<&'a str>,
    /// `USER:PASSWORD`, instead of stored credentials.
    pub(crate) creds: Option<&'a str>,
    /// How long nothing may come; the usual time if not given.
    pub(crate) progress_within: Option<Duration>,
    /// No progress.
    pub(crate) quiet: bool,
}

/// `sextant pull`.
pub(crate) fn pull(instance: &Instance, args: &PullArgs) -> Result<()> {
    let options = FetchOptions {
        plain_http: args.plain_http,
        platform: args.platform.as_deref(),
        creds: args.creds.as_deref(),
        progress_within: Some(Duration::from_secs(args.progress_timeout)),
        quiet: args.quiet || args.output.json(),
    };
    let report = transfer(&instance.store()?, &args.image, options)?;
    if args.output.json() {
        output::json(&document(&report))?;
    } else if args.quiet {
        println!("{}", report.id);
    } else {
        println!("{}", report.name.as_deref().unwrap_or(&args.image));
        println!("{}", report.id);
    }
    Ok(())
}

/// Pulls an image, progress on standard error, and returns its record.
pub(crate) fn fetch(instance: &Instance, image: &str, options: FetchOptions<'_>) -> Result<Image> {
    let store = instance.store()?;
    let report = transfer(&store, image, options)?;
    let images = store.images()?;
    // Another process may have given the name to another image since: what was pulled here is what is meant.
    let same = |i: &&Image| i.manifest.digest == report.manifest;
    let named = images.iter().filter(same).find(|i| i.name == report.name);
    let found = named.or_else(|| images.iter().find(same)).cloned();
    found.ok_or_else(|| {
        Failure::new(format!("cannot find image {image:?}: another process removed it; pull it again"))
    })
}

fn transfer(store: &Store, image: &str, options: FetchOptions<'_>) -> Result<PullReport> {
    let reference = Reference::parse(image)?;
    let platform: Option<Platform> =
        options.platform.map(|text| text.parse().context(|| format!("use --platform {text}"))).transpose()?;
    let mut how = Options { platform, ..Options::default() };
    how.progress_within = options.progress_within.unwrap_or(how.progress_within);
    let client = source::patient_client(options.plain_http, options.creds, how.progress_within)?;
    let progress = Transfer::new(options.quiet);
    let source = client.source(&reference)?;
    Ok(oci_image::pull::pull(store, &reference.to_string(), &source, &how, &progress)?)
}

/// The report for programs: bytes and busy seconds of each stage.
fn document(report: &PullReport) -> Value {
    let stage = |stage: &Stage| {
        json!({
            "bytes": stage.bytes,
            "seconds": stage.busy.as_secs_f64(),
            "megabytesPerSecond": stage.rate(),
        })
    };
    json!({
        "name": report.name,
        "id": report.id.to_string(),
        "manifest": report.manifest.to_string(),
        "target": report.target.to_string(),
        "layers": report.layers,
        "present": report.present,
        "stages": {
            "fetch": stage(&report.fetch),
            "hash": stage(&report.hash),
            "inflate": stage(&report.inflate),
            "unpack": stage(&report.unpack),
            "durable": stage(&report.durable),
        },
        "seconds": report.wall.as_secs_f64(),
    })
}
