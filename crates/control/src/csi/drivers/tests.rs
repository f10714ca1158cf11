//! Drivers that come, go and change.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use csi::contract::v1::*;
use csi::plugin::Services;

use super::{Drivers, Place, Times};

const TIMES: Times = Times {
    look: Duration::from_millis(200),
    probe: Duration::from_millis(200),
    answer: Duration::from_millis(500),
};

fn start(folder: &Path) -> Arc<Drivers> {
    Drivers::start_with(vec![Place::Folder(folder.into())], Duration::from_secs(60), TIMES)
}

/// Says what it is told to.
#[derive(Clone)]
struct Said {
    name: &'static str,
    version: &'static str,
    is_ready: Arc<Mutex<bool>>,
    /// So many questions more are not answered.
    hangs: Arc<Mutex<u32>>,
    answered: Arc<Mutex<u32>>,
}

impl Said {
    fn new(name: &'static str, version: &'static str) -> Self {
        Self {
            name,
            version,
            is_ready: Arc::new(Mutex::new(true)),
            hangs: Arc::default(),
            answered: Arc::default(),
        }
    }

    /// Serves at a socket until the answer is aborted.
    fn serve(&self, socket: PathBuf) -> tokio::task::JoinHandle<()> {
        let services = Services::new().identity(Arc::new(self.clone()));
        tokio::spawn(async move { services.serve(&socket, std::future::pending(), || {}).await.unwrap() })
    }
}

impl Identity for Said {
    async fn get_plugin_info(&self, _: GetPluginInfoRequest) -> Result<GetPluginInfoResponse, grpc::Status> {
        let (name, vendor_version) = (self.name.into(), self.version.into());
        Ok(GetPluginInfoResponse { name, vendor_version, ..Default::default() })
    }

    async fn get_plugin_capabilities(
        &self,
        _: GetPluginCapabilitiesRequest,
    ) -> Result<GetPluginCapabilitiesResponse, grpc::Status> {
        Ok(GetPluginCapabilitiesResponse::default())
    }

    async fn probe(&self, _: ProbeRequest) -> Result<ProbeResponse, grpc::Status> {
        let hangs = {
            let mut left = self.hangs.lock().unwrap();
            let hangs = *left > 0;
            *left = left.saturating_sub(1);
            hangs
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        *self.answered.lock().unwrap() += 1;
        Ok(ProbeResponse { ready: Some(BoolValue { value: *self.is_ready.lock().unwrap() }) })
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(90), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn version(drivers: &Drivers, name: &str) -> Option<String> {
    drivers.get(name).map(|driver| driver.version.clone())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_driver_is_there_while_it_is_ready_and_one_at_a_time() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("1.sock"), dir.path().join("2.sock"));
        let hanging = Said::new("hanging", "1");
        *hanging.hangs.lock().unwrap() = u32::MAX;
        hanging.serve(dir.path().join("0.sock"));
        let one = Said::new("one", "1");
        *one.is_ready.lock().unwrap() = false;
        let served = one.serve(first.clone());
        let drivers = start(dir.path());
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(drivers.all().is_empty(), "nobody is ready");
        *one.is_ready.lock().unwrap() = true;
        until("the first is there", || version(&drivers, "one").as_deref() == Some("1")).await;

        // Another of the same name waits for the first to end.
        let other = Said::new("one", "2").serve(second);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(version(&drivers, "one").as_deref(), Some("1"));
        served.abort();
        until("the second is there", || version(&drivers, "one").as_deref() == Some("2")).await;

        // At a socket that another has had.
        other.abort();
        until("none is there", || drivers.all().is_empty()).await;
        let _ = std::fs::remove_file(&first);
        Said::new("two", "1").serve(first);
        until("another is there", || version(&drivers, "two").is_some()).await;
        assert_eq!(drivers.all().len(), 1);
    });
}

#[test]
fn a_driver_that_is_busy_for_a_while_stays_and_one_that_hangs_goes() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let one = Said::new("one", "1");
        one.serve(dir.path().join("1.sock"));
        let drivers = start(dir.path());
        until("it is there", || drivers.get("one").is_some()).await;
        let first = drivers.get("one").unwrap();
        *one.hangs.lock().unwrap() = 2;
        until("it was asked twice in vain", || *one.hangs.lock().unwrap() == 0).await;
        let before = *one.answered.lock().unwrap();
        until("it has answered again", || *one.answered.lock().unwrap() > before + 1).await;
        assert!(drivers.get("one").is_some_and(|now| Arc::ptr_eq(&now, &first)), "it was there all the time");
        *one.hangs.lock().unwrap() = u32::MAX;
        until("it is gone", || drivers.get("one").is_none()).await;
        *one.hangs.lock().unwrap() = 0;
        until("it is there again", || drivers.get("one").is_some()).await;
    });
}

#[test]
fn each_driver_has_its_own_while_it_is_there() {
    struct Ends<'a>(&'a RefCell<Vec<String>>, String);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push(format!("{} ends", self.1));
        }
    }
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("1.sock");
        let served = Said::new("one", "1").serve(socket.clone());
        let drivers = start(dir.path());
        until("the first is there", || drivers.get("one").is_some()).await;
        let seen = RefCell::new(Vec::new());
        let each = drivers.each(|driver| {
            let ends = Ends(&seen, format!("{} {}", driver.name, driver.version));
            seen.borrow_mut().push(format!("{} begins", ends.1));
            async move {
                std::future::pending::<()>().await;
                drop(ends);
            }
        });
        let act = async {
            until("it is begun with", || *seen.borrow() == ["one 1 begins"]).await;
            // The first hangs; that is nothing to the second.
            Said::new("two", "1").serve(dir.path().join("2.sock"));
            until("both are begun with", || seen.borrow().len() == 2).await;
            served.abort();
            until("the first has ended", || seen.borrow().len() == 3).await;
            let _ = std::fs::remove_file(&socket);
            Said::new("one", "2").serve(socket);
            until("it is begun with again", || seen.borrow().len() == 4).await;
            assert_eq!(*seen.borrow(), ["one 1 begins", "two 1 begins", "one 1 ends", "one 2 begins"]);
        };
        tokio::select! {
            () = each => {}
            () = act => {}
        }
    });
}
