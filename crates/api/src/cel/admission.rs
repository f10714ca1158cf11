//! Expressions of admission: match conditions of webhooks, and policies with their variables.
//!
//! A [`Scope`] says which variables there are, compiles expressions over them, and evaluates those in a [`Run`] for one
//! request. Variables of a policy (`variables.x`) are evaluated when they are first read.

use super::eval::{Evaluator, Failure};
use super::lazy::Lazy;
use super::library::authz::{self, Authorize, Authz};
use super::types::{Declared, Field, Fields, ListKind, Shape, Type};
use super::value::{Map, Value};
use super::{Program, Wanted, read};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// How tall an expression may be with the variables that it reads: evaluation goes down as deep.
const HEIGHT: usize = 500;
/// The name of the object whose fields are a policy's variables.
const VARIABLES: &str = "kubernetes.variables";

/// The variables that expressions know.
#[derive(Debug)]
pub(crate) struct Scope {
    variables: Vec<(String, Type)>,
    composed: Vec<(String, Result<Program, String>)>,
    /// How tall each of those is, with what it reads.
    heights: Vec<usize>,
}

/// What the variables are for one request. What is absent is null.
#[derive(Clone, Copy, Default)]
pub(crate) struct Given<'a> {
    pub(crate) object: Option<&'a Json>,
    pub(crate) old_object: Option<&'a Json>,
    /// An `AdmissionRequest` without its objects.
    pub(crate) request: Option<&'a Json>,
    pub(crate) namespace: Option<&'a Json>,
    pub(crate) params: Option<&'a Json>,
    pub(crate) authorizer: Option<&'a dyn Authorize>,
}

impl Scope {
    /// `object`, `oldObject`, `request` and `namespaceObject`; with `params` also the object that a policy is given, with
    /// `authorizer` whom it may ask.
    pub(crate) fn new(params: bool, authorizer: bool) -> Scope {
        let mut variables: Vec<(String, Type)> = vec![
            ("object".to_owned(), Type::Dyn),
            ("oldObject".to_owned(), Type::Dyn),
            ("namespaceObject".to_owned(), NAMESPACE.type_()),
            ("request".to_owned(), REQUEST.type_()),
        ];
        if params {
            variables.push(("params".to_owned(), Type::Dyn));
        }
        if authorizer {
            variables.push(("authorizer".to_owned(), Type::Named(authz::AUTHORIZER)));
            let check = Type::Named(authz::RESOURCE_CHECK);
            variables.push(("authorizer.requestResource".to_owned(), check));
        }
        Scope { variables, composed: Vec::new(), heights: Vec::new() }
    }

    /// Defines the variable `variables.NAME`, which expressions that are compiled later may read. Of one that does not
    /// compile they know the name.
    ///
    /// # Errors
    /// As [`compile`](Scope::compile).
    pub(crate) fn define(&mut self, name: &str, source: &str) -> Result<(), String> {
        let program = self.compile(source, &[Wanted::Any]);
        let type_ = program.as_ref().map_or(Type::Dyn, |program| program.type_.clone());
        let height = program.as_ref().map_or(0, |program| self.height(program));
        let told = program.as_ref().map(|_| ()).map_err(Clone::clone);
        let name = format!("variables.{name}");
        self.variables.push((name.clone(), type_));
        self.composed.push((name, program));
        self.heights.push(height);
        self.declare_variables();
        told
    }

    /// The object whose fields the variables are: `has(variables.x)` asks it, and a name that is none is none of its fields.
    fn declare_variables(&mut self) {
        let field = |name: &String| {
            let name = name.trim_start_matches("variables.").to_owned();
            (name.clone(), Field { name, declared: dynamic() })
        };
        let fields = self.composed.iter().map(|(name, _)| field(name)).collect();
        let object = Type::Object(Arc::new(Fields { name: VARIABLES.to_owned(), fields }));
        self.variables.retain(|(name, _)| name != "variables");
        // Before all others: the name with its field is nearer.
        self.variables.insert(0, ("variables".to_owned(), object));
    }

    fn height(&self, program: &Program) -> usize {
        let of = |name: &String| {
            let at = self.composed.iter().position(|(known, _)| known == name)?;
            self.heights.get(at).copied()
        };
        program.expr.height + program.reads.iter().filter_map(of).max().unwrap_or(0)
    }

    /// Reads and checks an expression, which has to be of one of the `wanted` types.
    ///
    /// # Errors
    /// What is wrong, in Kubernetes' words.
    pub(crate) fn compile(&self, source: &str, wanted: &[Wanted]) -> Result<Program, String> {
        let (program, _) =
            read(source, &self.variables).map_err(|refused| refused.told("compilation failed: "))?;
        if self.height(&program) > HEIGHT {
            return Err(format!("expression with its variables is taller than {HEIGHT} levels"));
        }
        if wanted.iter().any(|wanted| wanted.is(&program.type_)) {
            return Ok(program);
        }
        let names: Vec<&str> = wanted.iter().map(|wanted| wanted.name()).collect();
        let found = &program.type_;
        Err(match names.as_slice() {
            [one] => format!("must evaluate to {one} but got {found}"),
            several => format!("must evaluate to one of [{}] but got {found}", several.join(" ")),
        })
    }

    /// Evaluates expressions of this scope for one request, which may cost `budget` together.
    pub(crate) fn run<'a>(&'a self, given: Given<'a>, budget: u64) -> Run<'a> {
        let value = |json: Option<&'a Json>, declared: Option<&'a Declared>| {
            json.map_or(Value::Null, |json| Value::of(json, declared))
        };
        let mut variables = vec![
            ("object", value(given.object, None)),
            ("oldObject", value(given.old_object, None)),
            ("request", value(given.request, Some(&REQUEST))),
            ("namespaceObject", value(given.namespace, Some(&NAMESPACE))),
            ("params", value(given.params, None)),
        ];
        if let Some(authorizer) = given.authorizer {
            variables.push(("authorizer", Authz::authorizer(authorizer)));
            variables.push(("authorizer.requestResource", Authz::request_resource(authorizer)));
        }
        let names = self
            .composed
            .iter()
            .map(|(name, _)| (Value::text(name.trim_start_matches("variables.")), Value::Null));
        variables.push(("variables", Value::Map(Map::Made(Arc::new(names.collect())))));
        let lazy = Lazy::new(variables.clone(), &self.composed);
        Run { variables, lazy, left: Some(budget) }
    }
}

/// Expressions being evaluated for one request.
pub(crate) struct Run<'a> {
    variables: Vec<(&'a str, Value<'a>)>,
    lazy: Lazy<'a>,
    /// What may still be spent; `None` once it was too much.
    left: Option<u64>,
}

impl<'a> Run<'a> {
    /// The value of an expression.
    ///
    /// # Errors
    /// How its evaluation failed. Where the budget is spent by it, [`is_spent`](Run::is_spent) says so and the value is
    /// none to go by.
    pub(crate) fn value(&mut self, program: &'a Program) -> Result<Value<'a>, Failure> {
        let Some(left) = self.left else { return Err(Failure::Limit) };
        self.lazy.allow(left);
        let (value, cost) = Evaluator::new(program, self.variables.clone(), Some(&self.lazy)).whole();
        self.left = left.checked_sub(cost.saturating_add(self.lazy.take_cost()));
        if self.is_spent() { Err(Failure::Limit) } else { value }
    }

    /// Whether more has been spent than may be: no further expression is evaluated.
    pub(crate) fn is_spent(&self) -> bool {
        self.left.is_none()
    }
}

fn declared(shape: Shape) -> Declared {
    Declared { shape, most: super::LARGEST, least_size: 1 }
}

fn dynamic() -> Declared {
    declared(Shape::Dyn)
}

fn object(name: &str, fields: &[(&str, Declared)]) -> Declared {
    // Unlike those of schemas, these names stand as they are: `request.namespace`.
    let field = |(name, declared): &(&str, Declared)| {
        ((*name).to_owned(), Field { name: (*name).to_owned(), declared: declared.clone() })
    };
    let fields: BTreeMap<String, Field> = fields.iter().map(field).collect();
    declared(Shape::Object(Arc::new(Fields { name: name.to_owned(), fields })))
}

fn text() -> Declared {
    declared(Shape::String)
}

fn list(items: Declared) -> Declared {
    declared(Shape::List(Arc::new(items), ListKind::Atomic))
}

fn map(values: Declared) -> Declared {
    declared(Shape::Map(Arc::new(values)))
}

static REQUEST: LazyLock<Declared> = LazyLock::new(|| {
    let kind =
        object("kubernetes.GroupVersionKind", &[("group", text()), ("version", text()), ("kind", text())]);
    let resource = object(
        "kubernetes.GroupVersionResource",
        &[("group", text()), ("version", text()), ("resource", text())],
    );
    let user = object(
        "kubernetes.UserInfo",
        &[("username", text()), ("uid", text()), ("groups", list(text())), ("extra", map(list(text())))],
    );
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", declared(Shape::Bool)),
            ("options", dynamic()),
        ],
    )
});

static NAMESPACE: LazyLock<Declared> = LazyLock::new(|| {
    let time = || declared(Shape::Timestamp(false));
    let condition = object(
        "kubernetes.NamespaceCondition",
        &[
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", time()),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", map(text())),
            ("annotations", map(text())),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", declared(Shape::Int)),
            ("deletionTimestamp", time()),
            ("generation", declared(Shape::Int)),
            ("resourceVersion", text()),
            ("finalizers", list(text())),
        ],
    );
    object(
        "kubernetes.Namespace",
        &[
            ("metadata", metadata),
            ("spec", object("kubernetes.NamespaceSpec", &[("finalizers", list(text()))])),
            (
                "status",
                object("kubernetes.NamespaceStatus", &[("conditions", list(condition)), ("phase", text())]),
            ),
        ],
    )
});

#[cfg(test)]
mod tests {
    use super::super::{Answer, Check, ResourceCheck};
    use super::*;
    use crate::cel::BUDGET;
    use serde_json::json;

    struct Cluster;

    impl Authorize for Cluster {
        fn decide(&self, account: Option<(&str, &str)>, what: &Check) -> Answer {
            let allowed = match what {
                Check::Path { path, verb } => path == "/healthz" && verb == "get",
                Check::Resource(check) => {
                    check.resource == "pods"
                        && (check.namespace == "a" || account == Some(("kube-system", "x")))
                }
            };
            Answer { allowed, reason: "so".to_owned(), error: None }
        }

        fn request_resource(&self) -> ResourceCheck {
            ResourceCheck {
                resource: "pods".to_owned(),
                namespace: "a".to_owned(),
                ..ResourceCheck::default()
            }
        }
    }

    fn told(source: &str) -> String {
        let mut scope = Scope::new(true, true);
        scope.define("replicas", "object.spec.replicas").expect("it compiles");
        scope.define("twice", "variables.replicas * 2").expect("it compiles");
        scope.define("broken", "object.none").expect("it compiles");
        scope.define("count", "object.spec.list.size() + 1").expect("it compiles");
        let program = match scope.compile(source, &[Wanted::Bool]) {
            Ok(program) => program,
            Err(error) => return error,
        };
        let object = json!({"spec": {"replicas": 3, "list": [1, 2]}});
        let request =
            json!({"operation": "CREATE", "userInfo": {"username": "me", "groups": ["g"]}, "dryRun": false});
        let namespace = json!({"metadata": {"name": "a", "labels": {"x": "y"}}});
        let given = Given {
            object: Some(&object),
            request: Some(&request),
            namespace: Some(&namespace),
            authorizer: Some(&Cluster),
            ..Given::default()
        };
        let mut run = scope.run(given, BUDGET);
        match run.value(&program) {
            Ok(value) => value.shown(),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn expressions_read_the_request_and_the_variables() {
        for (source, wanted) in [
            ("object.spec.replicas == 3", "true"),
            ("oldObject == null && params == null", "true"),
            (
                "request.operation == 'CREATE' && request.userInfo.username == 'me' && 'g' in request.userInfo.groups",
                "true",
            ),
            ("has(request.namespace)", "false"),
            ("namespaceObject.metadata.labels['x'] == 'y'", "true"),
            ("variables.twice == 6 && variables.count == 3", "true"),
            ("has(variables.twice)", "true"),
            ("variables.broken == 1", "composited variable \"broken\" fails to evaluate: no such key: none"),
            ("true || variables.broken == 1", "true"),
            ("authorizer.path('/healthz').check('get').allowed()", "true"),
            ("authorizer.group('').resource('pods').namespace('b').check('create').allowed()", "false"),
            (
                "authorizer.serviceAccount('kube-system', 'x').group('').resource('pods').check('get').allowed()",
                "true",
            ),
            ("authorizer.requestResource.check('delete').reason() == 'so'", "true"),
            ("[1].all(authorizer, authorizer == 1)", "true"),
        ] {
            assert_eq!(told(source), wanted, "{source}");
        }
    }

    #[test]
    fn complaints_are_those_of_kubernetes() {
        for (source, wanted) in [
            ("1", "must evaluate to bool but got int"),
            ("object.spec.enabled", "must evaluate to bool but got dyn"),
            ("object.x =", "compilation failed: ERROR: <input>:1:10: Syntax error: "),
            ("request.none == 1", "compilation failed: ERROR: <input>:1:8: undefined field 'none'\n"),
            ("variables.none == 1", "compilation failed: ERROR: <input>:1:10: undefined field 'none'\n"),
            (
                "variables.count == 'x'",
                "compilation failed: ERROR: <input>:1:17: found no matching overload for '_==_'",
            ),
            ("self.x == 1", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'self'"),
        ] {
            let got = told(source);
            assert!(got.starts_with(wanted), "{source}: {got}");
        }
        let told = Scope::new(false, false).compile("1", &[Wanted::String, Wanted::Null]).map(|_| ());
        assert_eq!(told, Err("must evaluate to one of [string null_type] but got int".to_owned()));
        assert!(Scope::new(false, false).compile("authorizer == null", &[Wanted::Bool]).is_err());
    }

    #[test]
    fn a_budget_is_spent_by_all_together() {
        let mut scope = Scope::new(false, false);
        scope.define("sum", "object.all(a, object.all(b, a + b >= 0))").expect("it compiles");
        let program = scope.compile("variables.sum", &[Wanted::Bool]).expect("it compiles");
        let object = json!((0..200).collect::<Vec<i64>>());
        let given = Given { object: Some(&object), ..Given::default() };
        let mut run = scope.run(given, 400_000);
        assert!(matches!(run.value(&program), Ok(Value::Bool(true))), "it is within the budget");
        assert!(matches!(run.value(&program), Ok(Value::Bool(true))), "it is known by now");
        let mut poor = scope.run(given, 1_000);
        assert!(poor.value(&program).is_err() && poor.is_spent());
    }

    /// Counts how often it is asked.
    #[derive(Default)]
    struct Counting(std::sync::atomic::AtomicUsize);

    impl Authorize for Counting {
        fn decide(&self, account: Option<(&str, &str)>, what: &Check) -> Answer {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Cluster.decide(account, what)
        }

        fn request_resource(&self) -> ResourceCheck {
            Cluster.request_resource()
        }
    }

    #[test]
    fn no_variable_is_evaluated_once_the_budget_is_spent() {
        let mut scope = Scope::new(false, true);
        scope.define("sum", "object.all(a, object.all(b, a + b >= 0))").expect("it compiles");
        scope.define("asked", "authorizer.path('/healthz').check('get').allowed()").expect("it compiles");
        let program = scope
            .compile("[variables.sum, variables.asked].all(a, a)", &[Wanted::Bool])
            .expect("it compiles");
        let both = scope.compile("variables.sum && variables.asked", &[Wanted::Bool]).expect("it compiles");
        let object = json!((0..100).collect::<Vec<i64>>());
        for (budget, asked) in [(BUDGET, 1), (1_000, 0)] {
            let counting = Counting::default();
            let given = Given { object: Some(&object), authorizer: Some(&counting), ..Given::default() };
            let mut run = scope.run(given, budget);
            for program in [&program, &both] {
                assert_eq!(run.value(program).is_ok(), asked == 1);
            }
            assert_eq!(counting.0.into_inner(), asked);
        }
    }

    #[test]
    fn variables_that_read_each_other_are_bounded() {
        let mut scope = Scope::new(false, false);
        scope.define("v0", "1").expect("it compiles");
        let refused = (1..2_000).any(|index| {
            scope.define(&format!("v{index}"), &format!("variables.v{} + 1", index - 1)).is_err()
        });
        assert!(refused, "evaluation would go down as deep");
    }
}
