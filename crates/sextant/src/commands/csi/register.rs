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

/// How often it is looked whether the driver is still there.
const GLANCE: Duration = Duration::from_millis(200);

/// Keeps the driver registered until it is told to end. Where the kubelet refuses it, it ends with what the kubelet says, and where the
/// driver goes, it takes the registration back and ends with that: who looks after the process sees it fail, and starts it again.
pub(super) async fn run(socket: &Path, args: &CsiRegisterArgs) -> Result<()> {
    let mut ended = std::pin::pin!(process::told_to_end());
    let (driver, client) = tokio::select! {
        found = find(socket) => found?,
        () = &mut ended => return Ok(()),
    };
    let endpoint = args.registration_endpoint.clone();
    let endpoint: PathBuf = endpoint.map_or_else(|| std::path::absolute(socket), Ok)?;
    let offer = Offer { driver, endpoint, folder: args.registration_dir.clone() };
    eprintln!("sextant csi register: offers driver {} on {}", offer.driver, offer.socket().display());
    process::tell_ready("csi register");
    let registered = || eprintln!("sextant csi register: the kubelet has registered driver {}", offer.driver);
    let mut is_gone = false;
    let stop = async {
        tokio::select! {
            () = ended => {}
            () = gone(&client) => is_gone = true,
        }
    };
    offer.serve(stop, registered).await.map_err(|e| Failure::new(e.to_string()))?;
    match is_gone {
        false => Ok(()),
        true => Err(Failure::new(format!(
            "driver {} does not serve at {} any more, or has ended the connection: it is not offered to the kubelet now; start this again, it waits for the driver",
            offer.driver,
            socket.display()
        ))),
    }
}

/// Resolves once the driver has ended, or has ended the connection.
async fn gone(client: &Client) {
    while !client.is_closed() {
        tokio::time::sleep(GLANCE).await;
    }
}

/// What the driver is called, once it is there, and the connection to it.
async fn find(socket: &Path) -> Result<(String, Client)> {
    let mut is_told = false;
    loop {
        let asked = async {
            let client = Client::connect(socket).await?.with_deadline(QUESTION);
            let info = client.get_plugin_info(GetPluginInfoRequest {}).await?;
            Ok::<_, grpc::Error>((info, client))
        };
        match asked.await {
            Ok((info, _)) if !is_driver_name(&info.name) => {
                return Err(Failure::new(format!(
                    "cannot register the driver at {}: it calls itself {:?}, and a name has letters, digits, '-' and '.', 63 at most",
                    socket.display(),
                    info.name
                )));
            }
            Ok((info, client)) => return Ok((info.name, client)),
            Err(error) if !std::mem::replace(&mut is_told, true) => {
                eprintln!("sextant csi register: waits for the driver: {error}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}
