//! The types whose schemas are wanted; what they refer to comes along.

use k::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi as k;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

macro_rules! ask {
    ($generator:ident: $($module:path { $($kind:ident)* })*) => {
        $({
            use $module as module;
            $(let _ = $generator.subschema_for::<module::$kind>();)*
        })*
    };
}

/// Every definition by its name, such as `io.k8s.api.core.v1.Pod`.
pub(crate) fn definitions() -> Map<String, Value> {
    let mut generator = SchemaSettings::openapi3()
        .with(|settings| settings.definitions_path = "/definitions".into())
        .into_generator();
    kinds(&mut generator);
    let _ = generator.subschema_for::<meta::DeleteOptions>();
    let _ = generator.subschema_for::<meta::ListMeta>();
    let _ = generator.subschema_for::<meta::Status>();
    let _ = generator.subschema_for::<meta::WatchEvent<k::apimachinery::pkg::runtime::RawExtension>>();
    let _ = generator.subschema_for::<meta::APIGroup>();
    let _ = generator.subschema_for::<meta::APIGroupList>();
    let _ = generator.subschema_for::<meta::APIResourceList>();
    let _ = generator.subschema_for::<meta::APIVersions>();
    let _ = generator.subschema_for::<k::apimachinery::pkg::version::Info>();
    generator.take_definitions(true)
}

fn kinds(generator: &mut SchemaGenerator) {
    ask!(generator:
        k::api::admissionregistration::v1 {
            MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
            ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration
        }
        k::api::apps::v1 { ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet }
        k::api::authentication::v1 { SelfSubjectReview TokenRequest TokenReview }
        k::api::authorization::v1 {
            LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview
        }
        k::api::autoscaling::v1 { HorizontalPodAutoscaler Scale }
        k::api::autoscaling::v2 { HorizontalPodAutoscaler }
        k::api::batch::v1 { CronJob Job }
        k::api::certificates::v1 { CertificateSigningRequest }
        k::api::coordination::v1 { Lease }
        k::api::core::v1 {
            Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
            PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount
        }
        k::api::discovery::v1 { EndpointSlice }
        k::api::events::v1 { Event }
        k::api::networking::v1 { Ingress IngressClass IPAddress NetworkPolicy ServiceCIDR }
        k::api::node::v1 { RuntimeClass }
        k::api::policy::v1 { Eviction PodDisruptionBudget }
        k::api::rbac::v1 { ClusterRole ClusterRoleBinding Role RoleBinding }
        k::api::scheduling::v1 { PriorityClass }
        k::api::storage::v1 {
            CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass
        }
        k::apiextensions_apiserver::pkg::apis::apiextensions::v1 { CustomResourceDefinition }
        k::kube_aggregator::pkg::apis::apiregistration::v1 { APIService }
    );
}
