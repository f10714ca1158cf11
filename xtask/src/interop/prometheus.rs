//! Debian's Prometheus on a machine of `sextant up` scrapes the agent as a kubelet is scraped. It is built without Kubernetes' discovery:
//! where the agent is, it is told.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Site;
use super::kubectl::{Folder, Machine, Step, debian, ok, take};
use crate::Result;
use crate::program::{output, quiet};

/// Where Prometheus listens, in the machine's network.
const ADDRESS: &str = "127.0.0.1:9090";
const SERVER: &str = "http://127.0.0.1:9090";
const API: &str = "127.0.0.1:6443";

/// What is scraped as who has a token, and may.
const SCRAPED: [(&str, &str); 4] = [
    ("kubelet", "/metrics"),
    ("cadvisor", "/metrics/cadvisor"),
    ("resource", "/metrics/resource"),
    ("probes", "/metrics/probes"),
];

/// What has to be told, and is more than nothing.
const SERIES: &[&str] = &[
    "kubelet_running_pods",
    "container_cpu_usage_seconds_total{job=\"cadvisor\",container=\"web\",image!=\"\"}",
    "container_memory_working_set_bytes{job=\"cadvisor\",container=\"web\",namespace=\"default\"}",
    "container_network_receive_bytes_total{job=\"cadvisor\",interface=\"eth0\"}",
    "container_memory_working_set_bytes{job=\"resource\",container=\"web\"}",
    "pod_cpu_usage_seconds_total{job=\"resource\"}",
    "node_memory_working_set_bytes{job=\"resource\"}",
    "prober_probe_total{job=\"probes\",probe_type=\"Readiness\",result=\"successful\",container=\"web\"}",
    "rate(node_cpu_usage_seconds_total[1m])",
    "apiserver_request_total{job=\"api\"}",
];

/// A pod to tell of, an account that may read metrics, one that may not, and their tokens.
const STEPS: &[Step] = &[
    ok(
        "kubectl create -f - <<'END'\n\
         {\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"web\"}, \"spec\": {\"containers\": [\n\
         {\"name\": \"web\", \"image\": \"busybox:1\", \"command\": [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/bin\"],\n\
         \"readinessProbe\": {\"periodSeconds\": 1, \"httpGet\": {\"port\": 8080, \"path\": \"/true\"}}}]}}\nEND",
        &["pod/web created"],
    ),
    ok("kubectl create serviceaccount monitor", &["serviceaccount/monitor created"]),
    ok("kubectl create serviceaccount stranger", &["serviceaccount/stranger created"]),
    ok(
        "kubectl create -f - <<'END'\n\
         {\"apiVersion\": \"rbac.authorization.k8s.io/v1\", \"kind\": \"ClusterRole\", \"metadata\": {\"name\": \"monitor\"}, \"rules\": [\n\
         {\"apiGroups\": [\"\"], \"resources\": [\"nodes/metrics\"], \"verbs\": [\"get\"]},\n\
         {\"nonResourceURLs\": [\"/metrics\"], \"verbs\": [\"get\"]}]}\nEND",
        &["clusterrole.rbac.authorization.k8s.io/monitor created"],
    ),
    ok(
        "kubectl create clusterrolebinding monitor --clusterrole monitor --serviceaccount default:monitor",
        &["clusterrolebinding.rbac.authorization.k8s.io/monitor created"],
    ),
    ok(
        "for name in monitor stranger; do echo '{\"apiVersion\": \"authentication.k8s.io/v1\", \"kind\": \"TokenRequest\", \"spec\": {}}' | \
         kubectl create --raw /api/v1/namespaces/default/serviceaccounts/$name/token -f - | \
         sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/' > $name.token; done; wc -l < stranger.token",
        &["1"],
    ),
    ok(
        "for part in certificate-authority client-certificate client-key; do \
         sed -n \"s/ *$part-data: *//p\" config | tr -d '\"' | base64 -d > $part.pem; done; grep -c BEGIN *.pem",
        &["*authority.pem:1", "*certificate.pem:1", "*key.pem:1"],
    ),
    ok(
        "kubectl get node here -o jsonpath='{.status.addresses[0].address}:{.status.daemonEndpoints.kubeletEndpoint.Port}' | tee agent",
        &["*:10250"],
    ),
    ok("kubectl wait --for=condition=Ready pod/web --timeout=240s", &["pod/web condition met"]),
];

pub(super) fn scrapes(site: &Site) -> Result<()> {
    let machine = Machine::start(site)?;
    let kubectl = debian()?;
    let folder = Folder::new(machine.dir(), &machine.kubeconfig(), &kubectl, Some(machine.network()))?;
    let done = take(&folder, &kubectl, STEPS).map_err(Into::into).and_then(|()| watched(&machine));
    done.map_err(|wrong: Box<dyn std::error::Error>| format!("{wrong}\n{}", machine.words()).into())
}

fn watched(machine: &Machine) -> Result<()> {
    let prometheus = Prometheus::start(machine)?;
    let seen = prometheus.targets(machine).and_then(|()| prometheus.series(machine));
    seen.map_err(|wrong| format!("{wrong}\n{}", prometheus.words()))?;
    SCRAPED.iter().try_for_each(|(_, path)| well_formed(machine, path))
}

/// What `promtool` says of what the agent tells at this path. It finds fault with names that are cAdvisor's (3), which have to stay.
fn well_formed(machine: &Machine, path: &str) -> Result<()> {
    let script = format!(
        "set -o pipefail; curl -sfk --max-time 30 -H \"Authorization: Bearer $(cat monitor.token)\" https://$(cat agent){path} > told && \
         promtool check metrics < told"
    );
    let mut shell = machine.within("bash");
    shell.args(["-c", &script]).current_dir(machine.dir().join("walk"));
    let checked = output(&mut shell)?;
    let words = String::from_utf8_lossy(&checked.stderr);
    let told = std::fs::read_to_string(machine.dir().join("walk/told"))?;
    match checked.status.code() {
        Some(0 | 3) if told.contains("\n# TYPE ") => Ok(()),
        _ => Err(format!("{path}: {}: {words}", checked.status).into()),
    }
}

/// It ends with this.
struct Prometheus {
    child: Child,
    words: PathBuf,
}

impl Prometheus {
    fn start(machine: &Machine) -> Result<Self> {
        let dir = machine.dir().join("walk");
        // What is JSON is YAML.
        std::fs::write(dir.join("prometheus.yml"), configuration(&dir)?.to_string())?;
        let words = dir.join("prometheus.words");
        let file = File::create(&words)?;
        let mut command = machine.within("prometheus");
        command.arg("--config.file").arg(dir.join("prometheus.yml"));
        command.arg("--storage.tsdb.path").arg(dir.join("tsdb"));
        command.args(["--web.listen-address", ADDRESS, "--log.level", "warn"]);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|e| format!("cannot run prometheus: {e}"))?;
        Ok(Self { child, words })
    }

    /// Waits until each target is as it should be: up, or refused as strangers are.
    fn targets(&self, machine: &Machine) -> Result<()> {
        let wanted = SCRAPED.iter().map(|(job, _)| (*job, ""));
        let wanted: Vec<(&str, &str)> = wanted
            .chain([("certificate", ""), ("api", "")])
            .chain([("stranger", "403 Forbidden"), ("nobody", "401 Unauthorized")])
            .collect();
        soon(|| {
            let mut ask = machine.within("curl");
            let said = quiet(ask.args([
                "-sf",
                "--max-time",
                "10",
                &format!("{SERVER}/api/v1/targets?state=active"),
            ]))?;
            let said: Value = serde_json::from_str(&said)?;
            let targets = said["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
            for (job, error) in &wanted {
                let of: Vec<_> = targets.iter().filter(|one| one["scrapePool"] == *job).collect();
                let [target] = of[..] else { return Err(format!("{job} has {} targets", of.len()).into()) };
                let told = target["lastError"].as_str().unwrap_or_default();
                let is_up = target["health"] == "up";
                let is_right = if error.is_empty() { is_up } else { !is_up && told.contains(error) };
                if !is_right {
                    return Err(format!("{job}: {} {told:?}, wanted {error:?}", target["health"]).into());
                }
            }
            Ok(())
        })
    }

    /// Waits until each series has a value.
    fn series(&self, machine: &Machine) -> Result<()> {
        SERIES.iter().try_for_each(|series| {
            soon(|| {
                let said = quiet(machine.within("promtool").args(["query", "instant", SERVER, series]))?;
                let values = said.lines().filter_map(|line| line.rsplit_once("=> ")?.1.split(' ').next());
                let mut numbers = values.filter_map(|value| value.parse::<f64>().ok());
                match numbers.any(|number| number > 0.0) {
                    true => Ok(()),
                    false => Err(format!("{series} has no value: {said}").into()),
                }
            })
        })
    }

    fn words(&self) -> String {
        std::fs::read_to_string(&self.words).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last refusal, if it is not so in time.
fn soon(look: impl Fn() -> Result<()>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(180);
    loop {
        match look() {
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(300)),
            looked => return looked,
        }
    }
}

/// Each job asks the agent in its own way, and one the API server.
fn configuration(dir: &Path) -> Result<Value> {
    let file = |name: &str| dir.join(name).display().to_string();
    let bearer = |name: &str| json!({"credentials_file": file(&format!("{name}.token"))});
    let authority = json!({"ca_file": file("certificate-authority.pem")});
    let agent = json!([{"targets": [std::fs::read_to_string(dir.join("agent"))?.trim()]}]);
    // A kubelet's own certificate is nobody's either.
    let job = |name: &str, path: &str, more: Value| {
        let mut job = json!({"job_name": name, "scheme": "https", "metrics_path": path, "static_configs": agent,
            "tls_config": {"insecure_skip_verify": true}});
        if let (Some(job), Value::Object(more)) = (job.as_object_mut(), more) {
            job.extend(more);
        }
        job
    };
    let mut jobs: Vec<Value> = SCRAPED
        .iter()
        .map(|(name, path)| job(name, path, json!({"authorization": bearer("monitor")})))
        .collect();
    let shown = json!({"insecure_skip_verify": true, "cert_file": file("client-certificate.pem"), "key_file": file("client-key.pem")});
    jobs.push(job("certificate", "/metrics/resource", json!({"tls_config": shown})));
    jobs.push(job("stranger", "/metrics", json!({"authorization": bearer("stranger")})));
    jobs.push(job("nobody", "/metrics", json!({})));
    jobs.push(json!({"job_name": "api", "scheme": "https", "authorization": bearer("monitor"), "tls_config": authority,
        "static_configs": [{"targets": [API]}]}));
    Ok(json!({"global": {"scrape_interval": "2s", "scrape_timeout": "2s"}, "scrape_configs": jobs}))
}
