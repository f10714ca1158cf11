//! `sextant csi register`: a driver of others, made known to the kubelet, as node-driver-registrar does it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use csi::caller::Client;
use csi::caller::registration::Offer;
use csi::contract::registration::is_driver_name;
use csi::contract::v1::GetPluginInfoRequest;
use grpc::process;

use crate::cli::CsiRegisterArgs;
use crate::failure::{Failure, Result};

/// How often a driver is called that is not there yet.
const LOOK: Duration = Duration::from_secs(1);
/// How long it may take to say who it is.
const QUESTION: Duration = Duration::from_secs(5);

/// Keeps the driver registered until it is told to end. Where the kubelet refuses it, it ends with what the kubelet says: who looks after
/// the process sees it fail, and starts it again.
pub(super) async fn run(socket: &Path, args: &CsiRegisterArgs) -> Result<()> {
    let mut ended = std::pin::pin!(process::told_to_end());
    let driver = tokio::select! {
        driver = name(socket) => driver?,
        () = &mut ended => return Ok(()),
    };
    let endpoint = args.registration_endpoint.clone();
    let endpoint: PathBuf = endpoint.map_or_else(|| std::path::absolute(socket), Ok)?;
    let offer = Offer { driver, endpoint, folder: args.registration_dir.clone() };
    eprintln!("sextant csi register: offers driver {} on {}", offer.driver, offer.socket().display());
    process::tell_ready("csi register");
    let registered = || eprintln!("sextant csi register: the kubelet has registered driver {}", offer.driver);
    offer.serve(ended, registered).await.map_err(|e| Failure::new(e.to_string()))
}

/// What the driver is called, once it is there.
async fn name(socket: &Path) -> Result<String> {
    let mut is_told = false;
    loop {
        let asked = async {
            let client = Client::connect(socket).await?.with_deadline(QUESTION);
            client.get_plugin_info(GetPluginInfoRequest {}).await
        };
        match asked.await {
            Ok(info) if !is_driver_name(&info.name) => {
                return Err(Failure::new(format!(
                    "cannot register the driver at {}: it calls itself {:?}, and a name has letters, digits, '-' and '.', 63 at most",
                    socket.display(),
                    info.name
                )));
            }
            Ok(info) => return Ok(info.name),
            Err(error) if !std::mem::replace(&mut is_told, true) => {
                eprintln!("sextant csi register: waits for the driver: {error}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}
