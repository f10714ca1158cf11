//! What a driver may have made for a claim that does not want it any more is taken back.

use csi::caller::Driver;
use csi::contract::v1::DeleteVolumeRequest;
use grpc::Code;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, ResourceExt as _};

use super::{Failure, MAKER, Provisioner, has_topology, request};
use crate::csi::{finalizers, names};

impl Provisioner {
    /// Sees to it that the driver has no volume for a claim. Asking for it again tells its id, or that there is none.
    pub(super) async fn take_back(
        &self,
        claim: &PersistentVolumeClaim,
        driver: &Driver,
    ) -> Result<(), Failure> {
        let volumes: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let there = volumes.get_opt(&request::volume_name(claim)).await;
        if there.map_err(|error| Failure::Later(error.to_string()))?.is_some() {
            return Ok(());
        }
        let known = self.begun().get(&claim.uid().unwrap_or_default()).cloned();
        let request = match known {
            Some(request) => request,
            None => {
                let class = self.class(claim, driver).map_err(|failure| {
                    Failure::Wrong(format!(
                        "{}; make that class again, or, if the driver has no volume {}, take the finalizer {} from the claim",
                        failure.text(),
                        request::volume_name(claim),
                        names::MAKING
                    ))
                })?;
                self.prepare(claim, &class, driver, false).await?.0
            }
        };
        match driver.client.create_volume(request.clone()).await {
            Ok(made) => {
                let volume_id = made.volume.unwrap_or_default().volume_id;
                let delete = DeleteVolumeRequest { volume_id, secrets: request.secrets };
                let deleted = driver.client.delete_volume(delete).await;
                deleted.map(drop).map_err(|error| Failure::Unknown(error.to_string()))
            }
            Err(error) => match Failure::of(&error) {
                Failure::Refused(code, _) if is_none(code, may_move(claim, driver)) => Ok(()),
                Failure::Refused(code, text) => Err(Failure::Refused(
                    code,
                    format!(
                        "{text}; where the driver has no volume of that name, take the finalizer {} from the claim",
                        names::MAKING
                    ),
                )),
                failure => Err(failure),
            },
        }
    }
}

/// The driver that may have made a claim's volume, or else is to make it.
pub(super) fn maker(claim: &PersistentVolumeClaim) -> &str {
    let began = claim.annotations().get(MAKER).filter(|_| finalizers::has(claim, names::MAKING));
    began.map_or_else(|| names::provisioner(claim), String::as_str)
}

/// Whether another node may be selected for a claim.
pub(super) fn may_move(claim: &PersistentVolumeClaim, driver: &Driver) -> bool {
    has_topology(driver) && names::selected_node(claim).is_some()
}

/// Whether a driver that was asked for a volume before, and now refuses it, says by that that it has none.
pub(super) fn is_none(code: Code, may_move: bool) -> bool {
    match code {
        // There is one, and it is not what is asked for today.
        Code::AlreadyExists => false,
        // Who is not let in is not told what there is.
        Code::Unauthenticated | Code::PermissionDenied => false,
        // No room there; or, where no place was asked for, too many questions.
        Code::ResourceExhausted => may_move,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_made_a_volume_is_remembered_while_it_is_made() {
        let mut claim = PersistentVolumeClaim::default();
        assert_eq!(maker(&claim), "");
        let annotations = [(names::PROVISIONER, "new.example.com"), (MAKER, "old.example.com")];
        claim.metadata.annotations = Some(annotations.map(|(key, value)| (key.into(), value.into())).into());
        assert_eq!(maker(&claim), "new.example.com", "nothing is being made");
        claim.metadata.finalizers = Some(vec![names::MAKING.into()]);
        assert_eq!(maker(&claim), "old.example.com");
    }

    #[test]
    fn not_every_refusal_says_that_there_is_no_volume() {
        for code in [Code::InvalidArgument, Code::NotFound, Code::OutOfRange, Code::Internal] {
            assert!(is_none(code, false), "{code}");
        }
        for code in [Code::AlreadyExists, Code::Unauthenticated, Code::PermissionDenied] {
            assert!(!is_none(code, true), "{code}");
        }
        assert!(is_none(Code::ResourceExhausted, true) && !is_none(Code::ResourceExhausted, false));
    }
}
