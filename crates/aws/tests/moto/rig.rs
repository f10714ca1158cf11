//! A VPC with instances in moto, and the provider in front of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws::{Aws, Config, Environment};
use cpi::contract::{CloudProvider, Error, LoadBalancerStatus, Node, Service};
use serde_json::{Value, json};
use testkit::proxy::Proxy;

pub(crate) const CLUSTER: &str = "shop";
pub(crate) const MARK: &str = "kubernetes.io/cluster/shop";
/// How long what must come may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// moto has one state for all: tests take turns.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Rig {
    pub(crate) moto: SocketAddr,
    pub(crate) proxy: Proxy,
    pub(crate) provider: Aws,
    pub(crate) vpc: String,
    pub(crate) subnet: String,
    /// The nodes' security group.
    group: String,
    _turn: MutexGuard<'static, ()>,
}

/// Sends a form to moto itself; the answer's text, whatever its status.
fn post(moto: SocketAddr, service: &str, path: &str, form: &str) -> String {
    let mut stream = TcpStream::connect(moto).expect("SEXTANT_TEST_MOTO does not answer");
    let who = format!(
        "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    );
    let kind = "application/x-www-form-urlencoded";
    let length = form.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {moto}\r\nauthorization: {who}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{form}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The texts of all elements of this name.
pub(crate) fn all(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open).skip(1).filter_map(|rest| Some(rest.split(&close).next()?.to_owned())).collect()
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With more in the cloud's configuration.
    pub(crate) fn with(config: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let moto = std::env::var("SEXTANT_TEST_MOTO").expect("SEXTANT_TEST_MOTO names moto's server");
        let moto: SocketAddr = moto.parse().unwrap();
        post(moto, "ec2", "/moto-api/reset", "");
        let proxy = Proxy::start(moto);
        let config: Config = format!("[Global]\nRegion = us-east-1\n{config}").parse().unwrap();
        let at = format!("http://{}", proxy.addr);
        let variables = [
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "hush-hush"),
            ("AWS_ENDPOINT_URL", at.as_str()),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let environment: Environment = variables.into_iter().collect();
        let provider = Aws::new(config, environment).unwrap();
        let mut rig = Self {
            moto,
            proxy,
            provider,
            vpc: String::new(),
            subnet: String::new(),
            group: String::new(),
            _turn: turn,
        };
        rig.vpc = rig.made("Action=CreateVpc&CidrBlock=10.0.0.0/16", "vpcId");
        let (vpc, tag) = (rig.vpc.clone(), format!("Tag.1.Key={MARK}&Tag.1.Value=owned"));
        rig.ec2(&format!("Action=ModifyVpcAttribute&VpcId={vpc}&EnableDnsHostnames.Value=true"));
        rig.subnet = rig.made(
            &format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.0.1.0/24&AvailabilityZone=us-east-1a"),
            "subnetId",
        );
        rig.ec2(&format!("Action=CreateTags&ResourceId.1={}&{tag}", rig.subnet));
        rig.group = rig.made(
            &format!("Action=CreateSecurityGroup&GroupName=nodes&GroupDescription=nodes&VpcId={vpc}"),
            "groupId",
        );
        rig.ec2(&format!(
            "Action=CreateTags&ResourceId.1={}&Tag.1.Key=kubernetes.io/role/elb&Tag.1.Value=1",
            rig.subnet
        ));
        rig
    }

    /// A call to moto itself.
    pub(crate) fn ec2(&self, form: &str) -> String {
        let answer = post(self.moto, "ec2", "/", &format!("{form}&Version=2016-11-15"));
        assert!(answer.starts_with("HTTP/1.1 2"), "{form}: {answer}");
        answer
    }

    pub(crate) fn elb(&self, form: &str) -> String {
        let answer = post(self.moto, "elasticloadbalancing", "/", &format!("{form}&Version=2015-12-01"));
        assert!(answer.starts_with("HTTP/1.1 2"), "{form}: {answer}");
        answer
    }

    pub(crate) fn made(&self, form: &str, name: &str) -> String {
        all(&self.ec2(form), name).remove(0)
    }

    /// So many instances that run, each with its private DNS name.
    pub(crate) fn run(&self, count: usize) -> Vec<(String, String)> {
        self.run_in(count, &self.group)
    }

    /// The same in a security group.
    pub(crate) fn run_in(&self, count: usize, group: &str) -> Vec<(String, String)> {
        let image = all(&self.ec2("Action=DescribeImages&Owner.1=amazon"), "imageId").remove(0);
        let tags = format!(
            "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key={MARK}&TagSpecification.1.Tag.1.Value=owned"
        );
        let answer = self.ec2(&format!(
            "Action=RunInstances&ImageId={image}&MinCount={count}&MaxCount={count}&InstanceType=m5.large&SubnetId={}&SecurityGroupId.1={}&{tags}",
            self.subnet, group
        ));
        all(&answer, "instanceId").into_iter().map(|id| (id.clone(), self.name(&id))).collect()
    }

    fn name(&self, id: &str) -> String {
        all(&self.ec2(&format!("Action=DescribeInstances&InstanceId.1={id}")), "privateDnsName").remove(0)
    }

    pub(crate) fn terminate(&self, id: &str) {
        self.ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"));
    }

    pub(crate) fn balancers(&self) -> Vec<String> {
        all(&self.elb("Action=DescribeLoadBalancers"), "LoadBalancerName")
    }

    pub(crate) fn groups(&self) -> Vec<String> {
        all(&self.elb("Action=DescribeTargetGroups"), "TargetGroupName")
    }

    /// Ports of the only load balancer.
    pub(crate) fn listeners(&self) -> Vec<String> {
        let arn = all(&self.elb("Action=DescribeLoadBalancers"), "LoadBalancerArn").remove(0);
        let told = self.elb(&format!("Action=DescribeListeners&LoadBalancerArn={arn}"));
        let mut ports = all(&told, "Port");
        ports.sort();
        ports
    }

    /// What each target group leads to.
    pub(crate) fn targets(&self) -> Vec<String> {
        let arns = all(&self.elb("Action=DescribeTargetGroups"), "TargetGroupArn");
        let mut all_: Vec<String> = Vec::new();
        for arn in arns {
            let told = self.elb(&format!("Action=DescribeTargetHealth&TargetGroupArn={arn}"));
            for target in all(&told, "Target") {
                all_.push(format!("{}:{}", all(&target, "Id")[0], all(&target, "Port")[0]));
            }
        }
        all_.sort();
        all_
    }

    /// Rules that bear a load balancer's mark: ports and what they are for.
    pub(crate) fn rules(&self) -> Vec<String> {
        let told = self.ec2(&format!(
            "Action=DescribeSecurityGroups&Filter.1.Name=vpc-id&Filter.1.Value.1={}",
            self.vpc
        ));
        let mut rules: Vec<String> = Vec::new();
        for group in all(&told, "ipPermissions") {
            for part in group.split("<fromPort>").skip(1) {
                let port = part.split('<').next().unwrap();
                let ranges = all(part, "ipRanges").into_iter().next().unwrap_or_default();
                for range in all(&ranges, "item") {
                    let from = all(&range, "cidrIp").remove(0);
                    let what = all(&range, "description").into_iter().next().unwrap_or_default();
                    if let Some((kind, _)) =
                        what.strip_prefix("kubernetes.io/rule/nlb/").and_then(|what| what.split_once('='))
                    {
                        rules.push(format!("{port} {from} {kind}"));
                    }
                }
            }
        }
        rules.sort();
        rules
    }

    /// A load balancer, however often the provider wants to be asked.
    pub(crate) async fn ensure(
        &self,
        service: &Service,
        nodes: &[Node],
    ) -> Result<LoadBalancerStatus, Error> {
        let balancers = self.provider.load_balancers().unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            match balancers.ensure_load_balancer(CLUSTER, service, nodes).await {
                Err(Error::RetryAfter { after, .. }) if Instant::now() < end => {
                    tokio::time::sleep(after.min(Duration::from_millis(200))).await;
                }
                done => return done,
            }
        }
    }

    pub(crate) async fn delete(&self, service: &Service) -> Result<(), Error> {
        let balancers = self.provider.load_balancers().unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            match balancers.ensure_load_balancer_deleted(CLUSTER, service).await {
                Err(Error::RetryAfter { after, .. }) if Instant::now() < end => {
                    tokio::time::sleep(after.min(Duration::from_millis(200))).await;
                }
                done => return done,
            }
        }
    }

    /// Whether a load balancer has left nothing.
    pub(crate) fn has_nothing(&self) {
        assert_eq!(self.balancers(), [""; 0]);
        assert_eq!(self.groups(), [""; 0]);
        assert_eq!(self.rules(), [""; 0]);
    }
}

/// A node as its kubelet has made it, this many seconds ago.
pub(crate) fn node(name: &str, provider_id: Option<&str>, age: i64) -> Node {
    let made = jiff::Timestamp::now().as_second() - age;
    let made = jiff::Timestamp::from_second(made).unwrap().to_string();
    let spec = provider_id.map(|id| json!({"providerID": id}));
    serde_json::from_value(
        json!({"metadata": {"name": name, "uid": name, "creationTimestamp": made}, "spec": spec}),
    )
    .unwrap()
}

/// Nodes that know their instances.
pub(crate) fn nodes(instances: &[(String, String)]) -> Vec<Node> {
    instances.iter().map(|(id, name)| node(name, Some(&format!("aws:///us-east-1a/{id}")), 3600)).collect()
}

/// A service with these ports, `(port, nodePort)`, and annotations.
pub(crate) fn service(ports: &[(u16, u16)], annotations: &Value) -> Service {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(port, node)| json!({"name": format!("p{port}"), "port": port, "nodePort": node, "protocol": "TCP"}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "5f1c7a52-8a43-4a70-9d0e-0b1a2c3d4e5f", "annotations": annotations},
        "spec": {"type": "LoadBalancer", "ports": ports},
    }))
    .unwrap()
}

/// Waits until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !look().await {
        assert!(Instant::now() < end, "it is never so: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
