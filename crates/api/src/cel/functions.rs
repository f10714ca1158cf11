//! The signatures of all functions that expressions can call.

use super::library::authz;
use super::types::Type;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// One way to call a function.
#[derive(Debug)]
pub(crate) struct Signature {
    /// The receiver, if it is called on one.
    pub(crate) receiver: Option<Type>,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
}

/// All ways to call the function of that name.
pub(crate) fn named(name: &str) -> Option<&'static [Signature]> {
    FUNCTIONS.get(name).map(Vec::as_slice)
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Vec<Signature>>> = LazyLock::new(|| {
    let mut out: HashMap<&'static str, Vec<Signature>> = HashMap::new();
    for line in SIGNATURES.lines() {
        for (name, signature) in expand(line) {
            out.entry(name).or_default().push(signature);
        }
    }
    out
});

/// A line is `name: RECEIVER? (ARGS) RESULT`, several names divided by spaces; `T` of `for T in ...` is repeated.
fn expand(line: &'static str) -> Vec<(&'static str, Signature)> {
    let Some((names, rest)) = line.split_once(": ") else { return Vec::new() };
    let (rest, each) = match rest.split_once(" for T in ") {
        Some((rest, types)) => (rest, types.split(' ').collect()),
        None => (rest, vec![""]),
    };
    let mut out = Vec::new();
    for each in each {
        let (receiver, rest) = rest.split_once('<').expect("signatures are written with <arguments>");
        let (args, result) = rest.split_once('>').expect("signatures are written with <arguments>");
        let read = |text: &str| read(text.trim(), each);
        for name in names.split(' ') {
            let signature = Signature {
                receiver: (!receiver.trim().is_empty()).then(|| read(receiver)),
                args: divide(args).into_iter().map(read).collect(),
                result: read(result),
            };
            out.push((name, signature));
        }
    }
    out
}

/// Divides at commas outside of parentheses.
fn divide(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let split = text.split(move |character| {
        depth += i32::from(character == '(') - i32::from(character == ')');
        character == ',' && depth == 0
    });
    split.filter(|part| !part.trim().is_empty()).collect()
}

fn read(text: &str, each: &str) -> Type {
    if let Some((head, rest)) = text.split_once('(') {
        let inner: Vec<Type> = divide(rest.strip_suffix(')').unwrap_or(rest))
            .into_iter()
            .map(|part| read(part.trim(), each))
            .collect();
        let mut inner = inner.into_iter();
        let mut next = || inner.next().unwrap_or(Type::Dyn);
        return match head {
            "list" => Type::list(next()),
            "map" => Type::map(next(), next()),
            "optional" => Type::optional(next()),
            _ => Type::Kind(Arc::new(next())),
        };
    }
    match text {
        "T" => read(each, each),
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "null" => Type::Null,
        "A" => Type::Param('A'),
        "B" => Type::Param('B'),
        "dyn" => Type::Dyn,
        "URL" => Type::Named("kubernetes.URL"),
        "IP" => Type::Named("net.IP"),
        "CIDR" => Type::Named("net.CIDR"),
        "Quantity" => Type::Named("kubernetes.Quantity"),
        "Format" => Type::Named("kubernetes.NamedFormat"),
        "Semver" => Type::Named("kubernetes.Semver"),
        "Authorizer" => Type::Named(authz::AUTHORIZER),
        "PathCheck" => Type::Named(authz::PATH_CHECK),
        "GroupCheck" => Type::Named(authz::GROUP_CHECK),
        "ResourceCheck" => Type::Named(authz::RESOURCE_CHECK),
        "Decision" => Type::Named(authz::DECISION),
        other => unreachable!("no type is called {other}"),
    }
}

const SIGNATURES: &str = "\
!_: <bool> bool
_&&_ _||_: <bool, bool> bool
@not_strictly_false: <bool> bool
_?_:_: <bool, A, A> A
_==_ _!=_: <A, A> bool
_<_ _<=_ _>_ _>=_: <T, T> bool for T in bool int uint double string bytes timestamp duration
_<_ _<=_ _>_ _>=_: <int, T> bool for T in double uint
_<_ _<=_ _>_ _>=_: <uint, T> bool for T in double int
_<_ _<=_ _>_ _>=_: <double, T> bool for T in int uint
_+_: <T, T> T for T in bytes double duration int string uint list(A)
_+_: <duration, timestamp> timestamp
_+_: <timestamp, duration> timestamp
_-_: <T, T> T for T in double duration int uint
_-_: <timestamp, duration> timestamp
_-_: <timestamp, timestamp> duration
_*_ _/_: <T, T> T for T in double int uint
_%_: <T, T> T for T in int uint
-_: <T> T for T in double int
@in: <A, list(A)> bool
@in: <A, map(A, B)> bool
_[_]: <list(A), int> A
_[_]: <map(A, B), A> B
_[_]: <optional(list(A)), int> optional(A)
_[_]: <optional(map(A, B)), A> optional(B)
_[?_]: <list(A), int> optional(A)
_[?_]: <optional(list(A)), int> optional(A)
_[?_]: <map(A, B), A> optional(B)
_[?_]: <optional(map(A, B)), A> optional(B)
size: <T> int for T in string bytes list(A) map(A,B)
size: T <> int for T in string bytes list(A) map(A,B)
type: <A> type(A)
dyn: <A> dyn
bool: <T> bool for T in bool string
int: <T> int for T in int double duration string timestamp uint
uint: <T> uint for T in uint double int string
double: <T> double for T in double int string uint
string: <T> string for T in string bool bytes double duration int timestamp uint IP CIDR
bytes: <T> bytes for T in bytes string
timestamp: <T> timestamp for T in timestamp string int
duration: <T> duration for T in duration string int
contains endsWith startsWith matches: string <string> bool
matches: <string, string> bool
getFullYear getMonth getDayOfYear getDate getDayOfMonth getDayOfWeek getHours getMinutes getSeconds getMilliseconds: timestamp <> int
getFullYear getMonth getDayOfYear getDate getDayOfMonth getDayOfWeek getHours getMinutes getSeconds getMilliseconds: timestamp <string> int
getHours getMinutes getSeconds getMilliseconds: duration <> int
charAt: string <int> string
indexOf lastIndexOf: string <string> int
indexOf lastIndexOf: string <string, int> int
lowerAscii upperAscii trim: string <> string
replace: string <string, string> string
replace: string <string, string, int> string
split: string <string> list(string)
split: string <string, int> list(string)
substring: string <int> string
substring: string <int, int> string
format: string <list(dyn)> string
strings.quote: <string> string
join: list(string) <> string
join: list(string) <string> string
find: string <string> string
findAll: string <string> list(string)
findAll: string <string, int> list(string)
isSorted: list(T) <> bool for T in int uint double bool string bytes timestamp duration
sum: list(T) <> T for T in int uint double duration
max min: list(T) <> T for T in int uint double bool string bytes timestamp duration
indexOf lastIndexOf: list(A) <A> int
slice: list(A) <int, int> list(A)
flatten: list(list(A)) <> list(A)
flatten: list(dyn) <int> list(dyn)
sort: list(T) <> list(T) for T in int uint double bool string bytes timestamp duration
@sortByAssociatedKeys: list(A) <list(T)> list(A) for T in int uint double bool string bytes timestamp duration
lists.range: <int> list(int)
distinct reverse: list(A) <> list(A)
first last: list(A) <> optional(A)
cel.@mapInsert: <map(A, B), A, B> map(A, B)
cel.@mapInsert: <map(A, B), map(A, B)> map(A, B)
sets.contains sets.equivalent sets.intersects: <list(A), list(A)> bool
optional.of optional.ofNonZeroValue: <A> optional(A)
optional.none: <> optional(A)
optional.unwrap: <list(optional(A))> list(A)
unwrapOpt: list(optional(A)) <> list(A)
hasValue: optional(A) <> bool
value: optional(A) <> A
or: optional(A) <optional(A)> optional(A)
orValue: optional(A) <A> A
url: <string> URL
isURL: <string> bool
getScheme getHost getHostname getPort getEscapedPath: URL <> string
getQuery: URL <> map(string, list(string))
ip: <string> IP
isIP ip.isCanonical: <string> bool
family: IP <> int
isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast: IP <> bool
cidr: <string> CIDR
isCIDR: <string> bool
containsIP: CIDR <string> bool
containsIP: CIDR <IP> bool
containsCIDR: CIDR <string> bool
containsCIDR: CIDR <CIDR> bool
ip: CIDR <> IP
prefixLength: CIDR <> int
masked: CIDR <> CIDR
quantity: <string> Quantity
isQuantity: <string> bool
sign: <Quantity> int
asInteger: Quantity <> int
isGreaterThan isLessThan: Quantity <Quantity> bool
compareTo: Quantity <Quantity> int
asApproximateFloat: Quantity <> double
isInteger: Quantity <> bool
add sub: Quantity <Quantity> Quantity
add sub: Quantity <int> Quantity
semver: <string> Semver
semver: <string, bool> Semver
isSemver: <string> bool
isSemver: <string, bool> bool
isGreaterThan isLessThan: Semver <Semver> bool
compareTo: Semver <Semver> int
major minor patch: Semver <> int
format.named: <string> optional(Format)
validate: Format <string> optional(list(string))
format.dns1123Label format.dns1123Subdomain format.dns1035Label format.qualifiedName format.dns1123LabelPrefix \
format.dns1123SubdomainPrefix format.dns1035LabelPrefix format.labelValue format.uri format.uuid format.byte \
format.date format.datetime: <> Format
path: Authorizer <string> PathCheck
group: Authorizer <string> GroupCheck
serviceAccount: Authorizer <string, string> Authorizer
resource: GroupCheck <string> ResourceCheck
subresource namespace name fieldSelector labelSelector: ResourceCheck <string> ResourceCheck
check: PathCheck <string> Decision
check: ResourceCheck <string> Decision
errored allowed: Decision <> bool
error reason: Decision <> string
";
