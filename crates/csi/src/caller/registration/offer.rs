//! A driver, offered to the kubelet of its node.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grpc::{Answer, Code, Failure, Server};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::contract::registration::{
    CSI_PLUGIN, InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse, SERVICE, VERSION,
};

/// How long the kubelet's last call has to be answered.
const GRACE: Duration = Duration::from_secs(1);

/// A driver that a kubelet is to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The driver's name.
    pub driver: String,
    /// The driver's socket, as the kubelet sees it.
    pub endpoint: PathBuf,
    /// Where the kubelet looks for plugins, [`REGISTRY`](super::REGISTRY) as a rule.
    pub folder: PathBuf,
}

impl Offer {
    /// The socket by which it is registered.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!("{}-reg.sock", self.driver))
    }

    /// Offers the driver until `stop` resolves; a kubelet then forgets it. A socket that a killed process has left is replaced.
    /// `registered` is called whenever a kubelet says that it has the driver.
    ///
    /// # Errors
    /// The kubelet says that registration failed, and why: it does not ask again before there is another socket. Or somebody else
    /// serves on the socket, or the machine refuses it.
    pub async fn serve(
        &self,
        stop: impl Future<Output = ()>,
        mut registered: impl FnMut(),
    ) -> Result<(), Failure> {
        let socket = self.socket();
        let taken = format!("driver {} is offered on {} already", self.driver, socket.display());
        let (listener, _bound) = grpc::listen(&socket, &taken).await?;
        let (told, mut statuses) = mpsc::channel(1);
        let info = PluginInfo {
            r#type: CSI_PLUGIN.into(),
            name: self.driver.clone(),
            endpoint: self.endpoint.to_string_lossy().into_owned(),
            supported_versions: vec![VERSION.into()],
        };
        let server = Server::new().any_authority().service(Registration(Arc::new(info), told));
        let mut refusal = None;
        let refused = async {
            while let Some(status) = statuses.recv().await {
                if !status.plugin_registered {
                    refusal = Some(status.error);
                    return;
                }
                registered();
            }
        };
        let stop = async {
            tokio::select! {
                () = stop => {}
                () = refused => {}
            }
        };
        let served = server.serve(listener, stop, GRACE).await;
        served.map_err(|e| Failure::internal(format!("cannot serve on {}: {e}", socket.display())))?;
        match refusal {
            None => Ok(()),
            Some(error) => Err(Failure::new(
                Code::FailedPrecondition,
                format!("the kubelet does not register driver {}: {error}", self.driver),
            )),
        }
    }
}

/// The service that a kubelet calls.
struct Registration(Arc<PluginInfo>, mpsc::Sender<RegistrationStatus>);

impl grpc::Service for Registration {
    fn name(&self) -> &'static str {
        SERVICE
    }

    fn call(&self, method: &str, request: Bytes) -> Option<Answer> {
        let (info, told) = (Arc::clone(&self.0), self.1.clone());
        Some(match method {
            "GetInfo" => grpc::unary(request, |_: InfoRequest| async move { Ok((*info).clone()) }),
            "NotifyRegistrationStatus" => grpc::unary(request, |status: RegistrationStatus| async move {
                // Nobody hears it if it ends already.
                let _ = told.send(status).await;
                Ok(RegistrationStatusResponse {})
            }),
            _ => return None,
        })
    }
}
