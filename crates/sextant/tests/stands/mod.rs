//! What drivers of tests have in common: who they are, and a thread of their own.
#![allow(dead_code, clippy::unwrap_used, reason = "a test's own tools; each test uses some of them")]

use std::path::PathBuf;
use std::thread::JoinHandle;

use csi::caller::registration::Offer;
use csi::contract::v1::plugin_capability::service::Type as Service;
use csi::contract::v1::*;
use csi::plugin::Services;
use tokio::sync::watch;

pub(crate) type Answer<T> = Result<T, grpc::Status>;

/// Who a driver of a test is: this name, with a controller.
pub(crate) struct Named(pub(crate) &'static str);

impl Identity for Named {
    async fn get_plugin_info(&self, _: GetPluginInfoRequest) -> Answer<GetPluginInfoResponse> {
        let (name, vendor_version) = (self.0.into(), "1.0.0".into());
        Ok(GetPluginInfoResponse { name, vendor_version, ..Default::default() })
    }

    async fn get_plugin_capabilities(
        &self,
        _: GetPluginCapabilitiesRequest,
    ) -> Answer<GetPluginCapabilitiesResponse> {
        let capabilities = vec![PluginCapability::service(Service::ControllerService)];
        Ok(GetPluginCapabilitiesResponse { capabilities })
    }

    async fn probe(&self, _: ProbeRequest) -> Answer<ProbeResponse> {
        Ok(ProbeResponse { ready: Some(BoolValue { value: true }) })
    }
}

/// A thread that serves a driver. It ends with this.
pub(crate) struct Thread {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    /// Serves at a socket: it does when this returns. Asks to be registered, too, where that is offered.
    pub(crate) fn serve(services: Services, socket: PathBuf, offer: Option<Offer>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (ready, serves) = std::sync::mpsc::channel();
        let until = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let offering = async {
                match offer {
                    Some(offer) => offer.serve(until(stopped.clone()), || ()).await,
                    None => Ok(()),
                }
            };
            runtime.block_on(async {
                let serving = services.serve(&socket, until(stopped.clone()), || ready.send(()).unwrap());
                let (served, offered) = tokio::join!(serving, offering);
                served.and(offered).unwrap();
            });
        });
        serves.recv().unwrap();
        Self { stop, thread: Some(thread) }
    }

    /// Ends it.
    pub(crate) fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.end();
    }
}
