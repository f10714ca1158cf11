//! What the roles allow that every cluster has. Those of parts that this server does not have (schedulers, controller
//! managers, signers of certificates) are left out.

pub(super) struct Role {
    pub(super) name: &'static str,
    /// The role into whose rules its own go.
    pub(super) aggregates_to: Option<&'static str>,
    /// Whether its rules are those of others.
    pub(super) is_aggregated: bool,
    pub(super) rules: &'static [Allowed],
}

pub(super) enum Allowed {
    Of {
        verbs: &'static [&'static str],
        groups: &'static [&'static str],
        resources: &'static [&'static str],
        names: &'static [&'static str],
    },
    Urls {
        verbs: &'static [&'static str],
        urls: &'static [&'static str],
    },
}

pub(super) struct Binding {
    pub(super) role: &'static str,
    pub(super) groups: &'static [&'static str],
    pub(super) users: &'static [&'static str],
}

const fn of(
    verbs: &'static [&'static str],
    groups: &'static [&'static str],
    resources: &'static [&'static str],
) -> Allowed {
    Allowed::Of { verbs, groups, resources, names: &[] }
}

const fn get(urls: &'static [&'static str]) -> Allowed {
    Allowed::Urls { verbs: &["get"], urls }
}

const fn role(name: &'static str, rules: &'static [Allowed]) -> Role {
    Role { name, aggregates_to: None, is_aggregated: false, rules }
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CORE: &[&str] = &[""];
const EVENTS: &[&str] = &["", "events.k8s.io"];
const TELL: Allowed = of(&["create", "patch", "update"], EVENTS, &["events"]);

/// Bound to nobody, or to everybody of a group.
pub(super) const BINDINGS: &[Binding] = &[
    Binding { role: "cluster-admin", groups: &["system:masters"], users: &[] },
    Binding { role: "system:basic-user", groups: &["system:authenticated"], users: &[] },
    Binding { role: "system:discovery", groups: &["system:authenticated"], users: &[] },
    Binding { role: "system:monitoring", groups: &["system:monitoring"], users: &[] },
    Binding {
        role: "system:public-info-viewer",
        groups: &["system:authenticated", "system:unauthenticated"],
        users: &[],
    },
    Binding {
        role: "system:service-account-issuer-discovery",
        groups: &["system:serviceaccounts"],
        users: &[],
    },
    Binding { role: "system:node", groups: &[], users: &[] },
    Binding { role: "system:node-proxier", groups: &[], users: &["system:kube-proxy"] },
];

pub(super) const ROLES: &[Role] = &[
    role("cluster-admin", &[of(&["*"], &["*"], &["*"]), Allowed::Urls { verbs: &["*"], urls: &["*"] }]),
    Role { name: "admin", aggregates_to: None, is_aggregated: true, rules: &[] },
    Role { name: "edit", aggregates_to: Some("admin"), is_aggregated: true, rules: &[] },
    Role { name: "view", aggregates_to: Some("edit"), is_aggregated: true, rules: &[] },
    Role {
        name: "system:aggregate-to-admin",
        aggregates_to: Some("admin"),
        is_aggregated: false,
        rules: &[
            of(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews"]),
            of(ALL, &["rbac.authorization.k8s.io"], &["rolebindings", "roles"]),
        ],
    },
    Role { name: "system:aggregate-to-edit", aggregates_to: Some("edit"), is_aggregated: false, rules: EDIT },
    Role { name: "system:aggregate-to-view", aggregates_to: Some("view"), is_aggregated: false, rules: VIEW },
    role(
        "system:basic-user",
        &[
            of(
                &["create"],
                &["authorization.k8s.io"],
                &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            ),
            of(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
        ],
    ),
    role(
        "system:discovery",
        &[get(&[
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/healthz",
            "/livez",
            "/openapi",
            "/openapi/*",
            "/readyz",
            "/version",
            "/version/",
        ])],
    ),
    role(
        "system:monitoring",
        &[
            get(&[
                "/flagz",
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/metrics/slis",
                "/readyz",
                "/readyz/*",
                "/statusz",
            ]),
            of(&["get"], CORE, &["nodes/metrics"]),
        ],
    ),
    role("system:public-info-viewer", &[get(&["/healthz", "/livez", "/readyz", "/version", "/version/"])]),
    role(
        "system:service-account-issuer-discovery",
        &[get(&[
            "/.well-known/openid-configuration",
            "/.well-known/openid-configuration/",
            "/openid/v1/jwks",
            "/openid/v1/jwks/",
        ])],
    ),
    role(
        "system:auth-delegator",
        &[
            of(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
            of(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
        ],
    ),
    role("system:node", NODE),
    role(
        "system:node-problem-detector",
        &[of(&["get"], CORE, &["nodes"]), of(&["patch"], CORE, &["nodes/status"]), TELL],
    ),
    role(
        "system:node-proxier",
        &[
            of(&["list", "watch"], CORE, &["endpoints", "services"]),
            of(READ, CORE, &["nodes"]),
            TELL,
            of(&["list", "watch"], &["discovery.k8s.io"], &["endpointslices"]),
        ],
    ),
    role(
        "system:kubelet-api-admin",
        &[
            of(READ, CORE, &["nodes"]),
            of(&["proxy"], CORE, &["nodes"]),
            of(
                &["*"],
                CORE,
                &[
                    "nodes/configz",
                    "nodes/healthz",
                    "nodes/log",
                    "nodes/metrics",
                    "nodes/pods",
                    "nodes/proxy",
                    "nodes/stats",
                ],
            ),
        ],
    ),
    role("system:kube-dns", &[of(&["list", "watch"], CORE, &["endpoints", "services"])]),
    role(
        "system:persistent-volume-provisioner",
        &[
            of(&["create", "delete", "get", "list", "watch"], CORE, &["persistentvolumes"]),
            of(&["get", "list", "update", "watch"], CORE, &["persistentvolumeclaims"]),
            of(READ, &["storage.k8s.io"], &["storageclasses"]),
            of(&["watch"], CORE, &["events"]),
            TELL,
        ],
    ),
];

/// What whoever may read a namespace reads: everything but secrets and roles.
const VIEW: &[Allowed] = &[
    of(
        READ,
        CORE,
        &[
            "configmaps",
            "endpoints",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
            "pods",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "serviceaccounts",
            "services",
            "services/status",
        ],
    ),
    of(
        READ,
        CORE,
        &[
            "bindings",
            "limitranges",
            "namespaces/status",
            "pods/log",
            "pods/status",
            "replicationcontrollers/status",
            "resourcequotas",
            "resourcequotas/status",
        ],
    ),
    of(READ, CORE, &["namespaces"]),
    of(READ, EVENTS, &["events"]),
    of(READ, &["discovery.k8s.io"], &["endpointslices"]),
    of(
        READ,
        &["apps"],
        &[
            "controllerrevisions",
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "statefulsets",
            "statefulsets/scale",
            "statefulsets/status",
        ],
    ),
    of(READ, &["autoscaling"], &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    of(READ, &["batch"], &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
    of(READ, &["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
    of(READ, &["networking.k8s.io"], &["ingresses", "ingresses/status", "networkpolicies"]),
];

/// What whoever may change a namespace does beside.
const EDIT: &[Allowed] = &[
    of(
        READ,
        CORE,
        &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"],
    ),
    of(&["impersonate"], CORE, &["serviceaccounts"]),
    of(WRITE, CORE, &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"]),
    of(&["create"], CORE, &["pods/eviction"]),
    of(
        WRITE,
        CORE,
        &[
            "configmaps",
            "persistentvolumeclaims",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "secrets",
            "serviceaccounts",
            "services",
            "services/proxy",
        ],
    ),
    of(&["create"], CORE, &["serviceaccounts/token"]),
    of(WRITE, EVENTS, &["events"]),
    of(
        WRITE,
        &["apps"],
        &[
            "daemonsets",
            "deployments",
            "deployments/rollback",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
    ),
    of(WRITE, &["autoscaling"], &["horizontalpodautoscalers"]),
    of(WRITE, &["batch"], &["cronjobs", "jobs"]),
    of(WRITE, &["policy"], &["poddisruptionbudgets"]),
    of(WRITE, &["networking.k8s.io"], &["ingresses", "networkpolicies"]),
    of(ALL, &["coordination.k8s.io"], &["leases"]),
];

/// What a kubelet does. There is no authorizer that holds a node to its own pods, so it is bound to nobody.
const NODE: &[Allowed] = &[
    of(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
    of(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews", "subjectaccessreviews"]),
    of(READ, CORE, &["services"]),
    of(&["create", "get", "list", "watch"], CORE, &["nodes"]),
    of(&["patch", "update"], CORE, &["nodes/status"]),
    of(&["patch", "update"], CORE, &["nodes"]),
    TELL,
    of(READ, CORE, &["pods"]),
    of(&["create", "delete"], CORE, &["pods"]),
    of(&["patch", "update"], CORE, &["pods/status"]),
    of(&["create"], CORE, &["pods/eviction"]),
    of(READ, CORE, &["configmaps", "secrets"]),
    of(&["get"], CORE, &["persistentvolumeclaims", "persistentvolumes"]),
    of(&["get"], CORE, &["endpoints"]),
    of(&["create", "get", "list", "watch"], &["certificates.k8s.io"], &["certificatesigningrequests"]),
    of(&["create", "delete", "get", "patch", "update"], &["coordination.k8s.io"], &["leases"]),
    of(&["get"], &["storage.k8s.io"], &["volumeattachments"]),
    of(&["create"], CORE, &["serviceaccounts/token"]),
    of(&["get", "patch", "update"], CORE, &["persistentvolumeclaims/status"]),
    of(READ, &["storage.k8s.io"], &["csidrivers"]),
    of(&["create", "delete", "get", "patch", "update"], &["storage.k8s.io"], &["csinodes"]),
    of(READ, &["node.k8s.io"], &["runtimeclasses"]),
];
